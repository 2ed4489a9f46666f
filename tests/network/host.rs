//! A host: a network namespace. It ends with the last of what lives in it.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

/// Name of the one device a host has besides its loopback.
const DEVICE: &str = "link0";
/// Packets that wait for the link. More than the programs ever have under way, so that nothing but
/// the link's dice drops packets.
const QUEUE: usize = 20_000;

/// See the module.
pub struct Host {
    namespace: File,
}

impl Host {
    /// A host with nothing but its loopback.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these stories need root to make network namespaces; leave the target out elsewhere"
        );
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let host = Self {
            namespace: made.join().unwrap(),
        };
        host.ip("link set lo up");
        host.run(repeat_dials_as_before_linux_6_5);
        host
    }

    /// Does `work` on this host, in a thread of its own. Threads and processes that it starts, and
    /// sockets that it opens, belong to this host.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let working = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            working.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Gives the host an address and a device to the host that has the address `peer`. Returns
    /// where the packets for it come out and go in; it does not block.
    pub fn attach(&self, address: &str, peer: &str, mtu: u32) -> File {
        let device = self.run(open_tun);
        self.ip(&format!("address add {address} peer {peer} dev {DEVICE}"));
        self.ip(&format!(
            "link set {DEVICE} mtu {mtu} txqueuelen {QUEUE} up"
        ));
        device
    }

    fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(arguments.split_whitespace());
        let output = self
            .run(|| command.output())
            .expect("`ip` of iproute2 is installed");
        assert!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Has the kernel repeat an unanswered dial after 1, 2, 4, … seconds. From Linux 6.5 on it repeats
/// the first four after a second each, but most hosts have an older one.
fn repeat_dials_as_before_linux_6_5() {
    let setting = Path::new("/proc/sys/net/ipv4/tcp_syn_linear_timeouts");
    if setting.exists() {
        fs::write(setting, "0").unwrap();
    }
}

/// Makes [`DEVICE`] in this thread's network namespace. It is gone when the file is closed.
fn open_tun() -> File {
    let tun = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .expect("/dev/net/tun is there; these stories need it");
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(DEVICE.bytes()) {
        *to = libc::c_char::try_from(from).expect("it is ASCII");
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: flags.try_into().unwrap(),
        },
    };
    system::set_interface(&tun, &request).expect("a TUN device can be made");
    tun
}

/// The system call that has no safe face.
#[expect(
    unsafe_code,
    reason = "nix leaves a device's own requests to its users"
)]
mod system {
    use std::ffi::c_int;
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use nix::libc;

    nix::ioctl_write_ptr_bad!(
        tun_set_iff,
        nix::request_code_write!(b'T', 202, size_of::<c_int>()),
        libc::ifreq
    );

    /// Makes the interface that `request` names and ties it to `tun`.
    pub fn set_interface(tun: &File, request: &libc::ifreq) -> nix::Result<()> {
        // SAFETY: the file is open, and TUNSETIFF reads an `ifreq`, which `request` is for the time
        // of the call.
        unsafe { tun_set_iff(tun.as_raw_fd(), request) }.map(drop)
    }
}
