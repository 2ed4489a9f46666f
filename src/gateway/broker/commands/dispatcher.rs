//! When which command goes to which node: a state machine without a clock and without a network.
//!
//! ```text
//!  Queued --(fewer than MaxConcurrency are out)--> Due --(acknowledged)--> Delivered --> ended
//!                                                  | ^
//!                                 offline, refused +-+ back-off, or the node connects
//! ```
//!
//! An invocation is out from Due to its end. It ends by the node's report, by a time-out of delivery
//! or execution, by a cancellation before it was sent, or because too many others failed.

mod invocation;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use self::invocation::{Cancellation, Invocation, RESEND_FIRST, RESEND_MAX, Stage};
use crate::gateway::store::commands::InvocationStatus;
use crate::protocol::wire::job::{CommandId, JobAnswer};

/// How long the reason of a refusal may take.
const REASON_PATIENCE: Duration = Duration::from_secs(60);

/// A command on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) command: CommandId,
    /// Its nodes that are not over, in their order.
    pub(super) nodes: Vec<(String, Progress)>,
    /// How many may be out at once.
    pub(super) max_concurrency: usize,
    /// How many may fail before the rest is not sent.
    pub(super) max_errors: usize,
    /// How many have failed already.
    pub(super) errors: usize,
    /// Until when it may be delivered.
    pub(super) expires: Instant,
    /// How long it may take on a node.
    pub(super) execution: Duration,
}

/// How far an invocation is when it is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was not delivered, as far as is known.
    New,
    /// It was delivered then.
    Delivered(Instant),
    /// The same, and it is to be cancelled.
    Cancelling(Instant),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the command to the node.
    Send(CommandId, String),
    /// Tell the node to cancel it.
    Cancel(CommandId, String),
    /// Note how the invocation stands.
    Note(CommandId, String, InvocationStatus),
    /// The command is over on all nodes.
    Forget(CommandId),
}

#[derive(Debug)]
struct Entry {
    order: Order,
    queue: VecDeque<String>,
    invocations: HashMap<String, Invocation>,
    out: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Resend(CommandId, String),
    Expire(CommandId),
    Execution(CommandId, String),
    Cancel(CommandId, String),
}

/// The commands that are not over.
#[derive(Debug, Default)]
pub(super) struct Dispatcher {
    commands: HashMap<CommandId, Entry>,
    /// Commands by node.
    of_node: HashMap<String, BTreeSet<CommandId>>,
    online: BTreeSet<String>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    actions: VecDeque<Action>,
}

impl Dispatcher {
    /// Takes up a command.
    pub(super) fn handle_order(&mut self, order: Order, now: Instant) {
        let command = order.command.clone();
        self.at(order.expires, Timer::Expire(command.clone()));
        let mut entry = Entry {
            queue: VecDeque::new(),
            invocations: HashMap::new(),
            out: 0,
            order,
        };
        for (node, progress) in std::mem::take(&mut entry.order.nodes) {
            self.of_node
                .entry(node.clone())
                .or_default()
                .insert(command.clone());
            let (stage, cancellation) = match progress {
                Progress::New => {
                    entry.queue.push_back(node.clone());
                    (Stage::Queued, None)
                }
                Progress::Delivered(at) => {
                    self.at(
                        at + entry.order.execution,
                        Timer::Execution(command.clone(), node.clone()),
                    );
                    (Stage::Delivered, None)
                }
                Progress::Cancelling(at) => {
                    self.at(
                        at + entry.order.execution,
                        Timer::Execution(command.clone(), node.clone()),
                    );
                    (Stage::Delivered, Some(Cancellation::new()))
                }
            };
            entry.out += usize::from(stage == Stage::Delivered);
            let invocation = Invocation {
                stage,
                cancellation,
            };
            entry.invocations.insert(node, invocation);
        }
        self.commands.insert(command.clone(), entry);
        self.proceed(&command, now);
    }

    /// The node has a control channel, perhaps a new one, or begins to poll.
    pub(super) fn handle_connected(&mut self, node: &str, now: Instant) {
        self.online.insert(node.to_owned());
        for command in self.of_node.get(node).cloned().unwrap_or_default() {
            let Some(invocation) = self.invocation(&command, node) else {
                continue;
            };
            if let Some(cancellation) = &mut invocation.cancellation {
                *cancellation = Cancellation::new();
            }
            match &mut invocation.stage {
                Stage::Queued => {}
                Stage::Due { wait, .. } => {
                    *wait = RESEND_FIRST;
                    self.send(&command, node, now);
                }
                Stage::Delivered => self.tell_cancellation(&command, node, now),
            }
        }
    }

    /// The node has none any more.
    pub(super) fn handle_disconnected(&mut self, node: &str) {
        self.online.remove(node);
    }

    /// The node answered the job that brought the command.
    pub(super) fn handle_answer(
        &mut self,
        command: &CommandId,
        node: &str,
        answer: JobAnswer,
        now: Instant,
    ) {
        let Some(invocation) = self.invocation(command, node) else {
            return;
        };
        let Stage::Due { .. } = invocation.stage else {
            return;
        };
        match answer {
            JobAnswer::Successful | JobAnswer::DuplicateCommand => self.deliver(command, node, now),
            JobAnswer::ProcessorBufferFull | JobAnswer::ClosedProcessor => {
                // The node does not have it, and shall not get it.
                if invocation.cancellation.is_some() {
                    self.end(command, node, InvocationStatus::Cancelled);
                    self.proceed(command, now);
                }
                // Else it is offered again after the wait that runs.
            }
            JobAnswer::ParseError => {
                // A report with the reason follows.
                invocation.stage = Stage::Delivered;
                let timer = Timer::Execution(command.clone(), node.to_owned());
                self.at(now + REASON_PATIENCE, timer);
            }
            JobAnswer::UnexpectedDocumentType
            | JobAnswer::InvalidDocument
            | JobAnswer::ContainerNotSupported
            | JobAnswer::UnexpectedError => {
                self.end(command, node, InvocationStatus::Undeliverable);
                self.proceed(command, now);
            }
        }
    }

    /// The node reported that it runs the command, or that it ended so.
    pub(super) fn handle_report(
        &mut self,
        command: &CommandId,
        node: &str,
        ended: Option<InvocationStatus>,
        now: Instant,
    ) {
        match ended {
            // It is noted already.
            Some(status) => {
                self.remove(command, node, status);
                self.proceed(command, now);
            }
            None => {
                if let Some(invocation) = self.invocation(command, node)
                    && matches!(invocation.stage, Stage::Due { .. })
                {
                    self.deliver(command, node, now);
                }
            }
        }
    }

    /// Somebody wants the command cancelled, on these nodes or on all.
    pub(super) fn handle_cancel(
        &mut self,
        command: &CommandId,
        nodes: Option<&[String]>,
        now: Instant,
    ) {
        let Some(entry) = self.commands.get(command) else {
            return;
        };
        let mut wanted: Vec<String> = entry.invocations.keys().cloned().collect();
        wanted.sort_unstable();
        wanted.retain(|node| nodes.is_none_or(|nodes| nodes.contains(node)));
        for node in wanted {
            let Some(invocation) = self.invocation(command, &node) else {
                continue;
            };
            match invocation.stage {
                Stage::Queued | Stage::Due { is_sent: false, .. } => {
                    self.end(command, &node, InvocationStatus::Cancelled);
                }
                Stage::Due { is_sent: true, .. } | Stage::Delivered => {
                    invocation.cancellation = Some(Cancellation::new());
                    let status = InvocationStatus::Cancelling;
                    self.actions
                        .push_back(Action::Note(command.clone(), node.clone(), status));
                    self.tell_cancellation(command, &node, now);
                }
            }
        }
        self.proceed(command, now);
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now
            && let Some(Reverse((at, timer))) = self.timers.pop()
        {
            match timer {
                Timer::Resend(command, node) => {
                    let is_due = self.invocation(&command, &node).is_some_and(|invocation| {
                        matches!(invocation.stage, Stage::Due { next: Some(next), .. } if next == at)
                    });
                    if is_due {
                        self.send(&command, &node, now);
                    }
                }
                Timer::Expire(command) => self.expire(&command, now),
                Timer::Execution(command, node) => {
                    self.end(&command, &node, InvocationStatus::ExecutionTimedOut);
                    self.proceed(&command, now);
                }
                Timer::Cancel(command, node) => {
                    let invocation = self.invocation(&command, &node);
                    let cancellation = invocation.and_then(|i| i.cancellation.as_ref());
                    if cancellation.is_some_and(|cancellation| cancellation.next == Some(at)) {
                        self.tell_cancellation(&command, &node, now);
                    }
                }
            }
        }
    }

    /// What is to be done next.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    fn at(&mut self, at: Instant, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }

    fn invocation(&mut self, command: &CommandId, node: &str) -> Option<&mut Invocation> {
        self.commands.get_mut(command)?.invocations.get_mut(node)
    }

    /// Sends the command to as many nodes as may have it at once.
    fn release(&mut self, command: &CommandId, now: Instant) {
        while let Some(entry) = self.commands.get_mut(command)
            && entry.out < entry.order.max_concurrency
            && let Some(node) = entry.queue.pop_front()
        {
            let Some(invocation) = entry.invocations.get_mut(&node) else {
                continue;
            };
            invocation.stage = Stage::Due {
                wait: RESEND_FIRST,
                next: None,
                is_sent: false,
            };
            entry.out += 1;
            self.send(command, &node, now);
        }
    }

    fn send(&mut self, command: &CommandId, node: &str, now: Instant) {
        let is_online = self.online.contains(node);
        let Some(invocation) = self.invocation(command, node) else {
            return;
        };
        let Stage::Due {
            wait,
            next,
            is_sent,
        } = &mut invocation.stage
        else {
            return;
        };
        if !is_online {
            *next = None;
            return;
        }
        let due = now + *wait;
        (*next, *is_sent) = (Some(due), true);
        *wait = (*wait * 2).min(RESEND_MAX);
        self.at(due, Timer::Resend(command.clone(), node.to_owned()));
        self.actions
            .push_back(Action::Send(command.clone(), node.to_owned()));
        self.tell_cancellation(command, node, now);
    }

    /// Tells the node of the cancellation, if there is one, and plans to tell it again. One that is
    /// away is told when it connects.
    fn tell_cancellation(&mut self, command: &CommandId, node: &str, now: Instant) {
        if !self.online.contains(node) {
            return;
        }
        let invocation = self.invocation(command, node);
        let Some(cancellation) = invocation.and_then(|i| i.cancellation.as_mut()) else {
            return;
        };
        let again = cancellation.tell(now);
        let (command, node) = (command.clone(), node.to_owned());
        if let Some(again) = again {
            self.at(again, Timer::Cancel(command.clone(), node.clone()));
        }
        self.actions.push_back(Action::Cancel(command, node));
    }

    fn deliver(&mut self, command: &CommandId, node: &str, now: Instant) {
        let Some(entry) = self.commands.get_mut(command) else {
            return;
        };
        let execution = entry.order.execution;
        let Some(invocation) = entry.invocations.get_mut(node) else {
            return;
        };
        invocation.stage = Stage::Delivered;
        let status = if invocation.cancellation.is_some() {
            InvocationStatus::Cancelling
        } else {
            InvocationStatus::InProgress
        };
        let (command, node) = (command.clone(), node.to_owned());
        self.at(
            now + execution,
            Timer::Execution(command.clone(), node.clone()),
        );
        self.actions.push_back(Action::Note(command, node, status));
    }

    /// What was not delivered until now never will be.
    fn expire(&mut self, command: &CommandId, now: Instant) {
        let Some(entry) = self.commands.get(command) else {
            return;
        };
        let undelivered = entry.invocations.iter();
        let undelivered = undelivered.filter(|(_, i)| i.stage != Stage::Delivered);
        let mut undelivered: Vec<(String, bool)> = undelivered
            .map(|(node, invocation)| (node.clone(), invocation.cancellation.is_some()))
            .collect();
        undelivered.sort_unstable();
        for (node, is_cancelled) in undelivered {
            let status = if is_cancelled {
                InvocationStatus::Cancelled
            } else {
                InvocationStatus::DeliveryTimedOut
            };
            self.end(command, &node, status);
        }
        self.proceed(command, now);
    }

    /// Ends an invocation and notes it. What follows from that is for [`Self::proceed`], once all have
    /// ended that are to end: the end of one makes room for the next.
    fn end(&mut self, command: &CommandId, node: &str, status: InvocationStatus) {
        if self.remove(command, node, status) {
            let note = Action::Note(command.clone(), node.to_owned(), status);
            self.actions.push_back(note);
        }
    }

    /// Forgets an invocation that ended so; false if there is none. One that is queued is passed over
    /// when its turn comes.
    fn remove(&mut self, command: &CommandId, node: &str, status: InvocationStatus) -> bool {
        let Some(entry) = self.commands.get_mut(command) else {
            return false;
        };
        let Some(invocation) = entry.invocations.remove(node) else {
            return false;
        };
        entry.out -= usize::from(invocation.stage != Stage::Queued);
        entry.order.errors += usize::from(status.is_error());
        if let Some(commands) = self.of_node.get_mut(node) {
            commands.remove(command);
            if commands.is_empty() {
                self.of_node.remove(node);
            }
        }
        true
    }

    /// Goes on with a command: after too many errors what is queued ends, otherwise it is sent; with
    /// its last invocation the command is over.
    fn proceed(&mut self, command: &CommandId, now: Instant) {
        let Some(entry) = self.commands.get_mut(command) else {
            return;
        };
        if entry.order.errors > entry.order.max_errors {
            for node in std::mem::take(&mut entry.queue) {
                self.end(command, &node, InvocationStatus::Terminated);
            }
        }
        let is_over = self
            .commands
            .get(command)
            .is_some_and(|entry| entry.invocations.is_empty());
        if is_over {
            self.commands.remove(command);
            self.actions.push_back(Action::Forget(command.clone()));
        } else {
            self.release(command, now);
        }
    }
}

#[cfg(test)]
mod tests;
