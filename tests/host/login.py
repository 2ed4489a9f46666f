"""Sessions that log in by the rules of the host's PAM, with Debian's own modules and login manager."""

import re

import survival
from checks import check, eventually

RULES = "/etc/pam.d/ssm-agent"


def sessions_log_in_by_the_rules_of_the_host(world):
    first_session_makes_the_user(world)
    with Rules(world):
        world.host.write("/etc/security/limits.d/story.conf", "ssm-user hard nofile 777\nssm-user - maxlogins 2\n")
        world.host.write("/etc/environment", "FLAVOUR=of-the-host\n")
        shell = open_shell(world)
        shell.answer("echo files $(ulimit -Hn)", rb"files 777")
        shell.answer("echo flavour $FLAVOUR", rb"flavour of-the-host")
        shell.answer("echo score $(cat /proc/self/oom_score_adj)", rb"score 0")
        shell.answer("echo runtime $XDG_RUNTIME_DIR", rb"runtime /run/user/\d+")
        shell.answer("echo group $(grep -o 'ssm-agent.service/session-' /proc/self/cgroup | head -1)",
                     rb"group ssm-agent.service/session-")
        shell.answer("echo or $(sudo id -un)", rb"or root")
        # sudo throws away what was typed while it ran.
        shell.answer("true; echo rea''dy", rb"ready")
        shell.send(b"sleep 8641\r")
        eventually("it sleeps", lambda: world.host.run("pgrep", "-f", "^sleep 8641").stdout)
        shell.send(b"\x1a")
        shell.expect(rb"Stopped")
        shell.answer("kill -KILL %1; wait; echo do''ne", rb"done")
        line = eventually("who knows them", lambda: who(world))
        check(line[0].startswith("ssm-user pts/") and "(ssm:" in line[0], f"who says {line}")
        check("ssm-user" in world.host.do("loginctl", "--no-legend", "list-sessions"), "the login manager knows nobody")

        # It is a session like any other for whatever happens to the agent.
        for happen in (("systemctl", "restart", "ssm-agent"), ("kill", "-KILL", str(world.agent_process()))):
            before = world.agent_process()
            world.host.do(*happen[:-1], happen[-1] if happen[0] == "systemctl" else str(before))
            eventually("another process runs", lambda: world.agent_process() not in (0, before))
            world.wait_until_online()
            shell.answer("echo still $((40 + 2))", rb"still 42")
        count = len(who(world))
        check(count == 1, f"{count} of them are there")

        # The rule of the host: two at a time.
        second = open_shell(world)
        third = world.terminal(world.session(world.aws))
        check(third.wait() != 0, "a third one was let in")
        check(b"too many logins for 'ssm-user'" in third.seen, f"no reason: {third.seen[-300:]}")

        second.send(b"exit 3\r")
        second.wait()
        shell.send(b"exit\r")
        check(shell.wait() == 0, "the client failed")
        world.wait_until_all_sessions_are_over()
        nothing_is_left(world)
        # What ended this very second is taken for running.
        eventually("last knows of both", lambda: len(re.findall(
            r"(?m)^ssm-user .* - ", world.host.do("last", "-w", "ssm-user"))) == 2)
        check(re.search(r"pts/\d", world.host.do("lastlog", "-u", "ssm-user")), "lastlog knows nothing")


def what_sessions_of_pam_leave_behind_is_ended(world):
    with Rules(world):
        survival.leave_daemons(world)
        eventually("the daemons are gone", lambda: survival.daemons(world) == [])
        unit = world.host.unit("ssm-agent", "ControlGroup")
        check(survival.groups(world, unit) == [], "groups are left")
        nothing_is_left(world)

        # A client that goes away, and a session that is terminated while its shell ignores the hang-up.
        shell = open_shell(world)
        shell.answer("trap '' HUP TERM; echo sta''ys", rb"stays")
        session = world.ssm.describe_sessions(State="Active")["Sessions"][0]["SessionId"]
        world.ssm.terminate_session(SessionId=session)
        shell.wait()
        nothing_is_left(world)


def who_may_not_log_in_is_told_why(world):
    with Rules(world):
        world.host.write("/etc/nologin", "closed for the night\n")
        refused(world, b"closed for the night")
        world.host.do("rm", "/etc/nologin")

        world.host.do("usermod", "-e", "2001-01-01", "ssm-user")
        refused(world, b"by the rules of PAM's service ssm-agent: Your account has expired")
        world.host.do("usermod", "-e", "", "ssm-user")

        rules = world.host.read(RULES)
        world.host.write(RULES, "account required pam_no_such_module.so\n" + rules)
        refused(world, b"PAM's service ssm-agent")
        world.host.do("rm", RULES)
        refused(world, b"which has no service ssm-agent: there is no /etc/pam.d/ssm-agent")
        world.host.write(RULES, rules)

        shell = open_shell(world)
        shell.send(b"exit\r")
        check(shell.wait() == 0, "the client failed")
        nothing_is_left(world)


def host_that_goes_down_ends_sessions_of_pam_with_the_reason(world):
    with Rules(world):
        survival.host_that_goes_down_ends_its_sessions_with_the_reason(world)


class Rules:
    """An agent whose sessions log in by the rules of the package."""

    def __init__(self, world):
        self.world = world

    def __enter__(self):
        self.reload(PamService="ssm-agent")

    def __exit__(self, *_):
        self.world.host.run("rm", "-f", "/etc/security/limits.d/story.conf", "/etc/environment", "/etc/nologin")
        self.reload()

    def reload(self, **session):
        before = self.world.status()["started"]
        self.world.configure(**session)
        self.world.host.do("systemctl", "reload", "ssm-agent")
        eventually("the configuration is read", lambda: self.world.status().get("started") not in (None, before))
        self.world.wait_until_online()


def first_session_makes_the_user(world):
    shell = open_shell(world)
    check(who(world) == [], "who knows of a session that did not log in through PAM")
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")


def open_shell(world):
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    return shell


def refused(world, reason):
    shell = world.terminal(world.session(world.aws))
    check(shell.wait() != 0, "a session was opened")
    check(reason in b" ".join(shell.seen.split()), f"no reason: {shell.seen[-400:]}")
    world.wait_until_all_sessions_are_over()


def who(world):
    return [" ".join(line.split()) for line in world.host.do("who").splitlines()]


def nothing_is_left(world):
    eventually("nobody is there", lambda: who(world) == [])
    eventually("nobody attends a login", lambda: world.host.run("pgrep", "-x", "ssm-login").stdout == "")
    eventually("the login manager knows nobody",
               lambda: "ssm-user" not in world.host.do("loginctl", "--no-legend", "list-sessions"))
