use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A dispatcher with a clock that stands still.
struct World {
    dispatcher: Dispatcher,
    now: Instant,
    command: CommandId,
}

impl World {
    /// The nodes are connected.
    fn new(nodes: &[&str], max_concurrency: usize, max_errors: usize) -> Self {
        let online = ["a", "b", "c", "d"];
        Self::with(&online, nodes, max_concurrency, max_errors)
    }

    /// The nodes are away.
    fn away(nodes: &[&str], max_concurrency: usize, max_errors: usize) -> Self {
        Self::with(&[], nodes, max_concurrency, max_errors)
    }

    fn with(online: &[&str], nodes: &[&str], max_concurrency: usize, max_errors: usize) -> Self {
        let now = Instant::now();
        let nodes: Vec<_> = nodes.iter().map(|node| (*node, Progress::New)).collect();
        let order = Order {
            max_concurrency,
            max_errors,
            ..order(&nodes, now)
        };
        let command = order.command.clone();
        let mut dispatcher = Dispatcher::default();
        for node in online {
            dispatcher.handle_connected(node, now);
        }
        dispatcher.handle_order(order, now);
        Self {
            dispatcher,
            now,
            command,
        }
    }

    /// What is to be done, in short.
    fn actions(&mut self) -> Vec<String> {
        let actions = std::iter::from_fn(|| self.dispatcher.poll_action());
        let actions = actions.map(|action| match action {
            Action::Send(_, node) => format!("send {node}"),
            Action::Cancel(_, node) => format!("cancel {node}"),
            Action::Note(_, node, status) => format!("{node} {}", status.details()),
            Action::Forget(_) => "over".to_owned(),
        });
        actions.collect()
    }

    fn answer(&mut self, node: &str, answer: JobAnswer) {
        self.dispatcher
            .handle_answer(&self.command, node, answer, self.now);
    }

    fn ended(&mut self, node: &str, status: InvocationStatus) {
        self.dispatcher
            .handle_report(&self.command, node, Some(status), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.dispatcher.handle_timeout(self.now);
    }
}

#[test]
fn command_goes_out_and_is_over_with_its_report() {
    let mut world = World::new(&["a"], 50, 0);

    assert_eq!(world.actions(), ["send a"]);
    world.answer("a", JobAnswer::Successful);
    assert_eq!(world.actions(), ["a InProgress"]);
    world.ended("a", InvocationStatus::Success);

    assert_eq!(world.actions(), ["over"]);
    world.pass(10 * HOUR);
    assert_eq!(world.actions(), [""; 0]);
}

#[test]
fn unanswered_and_refused_jobs_are_sent_again_with_growing_waits() {
    let mut world = World::new(&["a"], 50, 0);
    world.actions();
    world.pass(SECOND);
    assert_eq!(world.actions(), [""; 0]);
    world.pass(SECOND);
    assert_eq!(world.actions(), ["send a"]);
    world.answer("a", JobAnswer::ProcessorBufferFull);
    world.pass(3 * SECOND);
    assert_eq!(world.actions(), [""; 0]);
    world.pass(SECOND);
    assert_eq!(world.actions(), ["send a"]);

    world.answer("a", JobAnswer::DuplicateCommand);
    assert_eq!(world.actions(), ["a InProgress"]);
    world.pass(HOUR);
    assert_eq!(world.actions(), [""; 0]);
}

#[test]
fn report_counts_as_an_answer() {
    let mut world = World::new(&["a"], 50, 0);
    world.actions();

    world
        .dispatcher
        .handle_report(&world.command, "a", None, world.now);

    assert_eq!(world.actions(), ["a InProgress"]);
}

#[test]
fn node_that_is_away_gets_it_when_it_comes_and_not_after_the_time_out() {
    let mut world = World::new(&["a"], 50, 0);
    world.actions();
    world.dispatcher.handle_disconnected("a");
    world.pass(60 * SECOND);
    assert_eq!(world.actions(), [""; 0]);
    world.dispatcher.handle_connected("a", world.now);
    assert_eq!(world.actions(), ["send a"]);

    world.dispatcher.handle_disconnected("a");
    world.pass(HOUR);
    assert_eq!(world.actions(), ["a DeliveryTimedOut", "over"]);
    world.dispatcher.handle_connected("a", world.now);
    assert_eq!(world.actions(), [""; 0]);
}

#[test]
fn no_more_are_out_than_may_be() {
    let mut world = World::new(&["a", "b", "c"], 2, 0);

    assert_eq!(world.actions(), ["send a", "send b"]);
    world.answer("a", JobAnswer::Successful);
    world.ended("a", InvocationStatus::Success);
    assert_eq!(world.actions(), ["a InProgress", "send c"]);
}

#[test]
fn too_many_errors_end_the_rest() {
    let mut world = World::new(&["a", "b", "c", "d"], 1, 1);
    world.actions();

    world.ended("a", InvocationStatus::Failed);
    assert_eq!(world.actions(), ["send b"]);
    world.ended("b", InvocationStatus::ExecutionTimedOut);

    assert_eq!(world.actions(), ["c Terminated", "d Terminated", "over"]);
}

#[test]
fn cancellation_sends_nothing_first() {
    let mut world = World::away(&["a", "b"], 1, 0);
    world.dispatcher.handle_connected("b", world.now);
    assert_eq!(world.actions(), [""; 0], "a is away, and b waits for it");

    world
        .dispatcher
        .handle_cancel(&world.command, None, world.now);

    assert_eq!(world.actions(), ["a Cancelled", "b Cancelled", "over"]);
}

#[test]
fn expiry_sends_nothing_first() {
    let mut world = World::away(&["a", "b"], 1, 1);
    world.dispatcher.handle_connected("b", world.now);

    world.pass(HOUR);

    let ended = ["a DeliveryTimedOut", "b DeliveryTimedOut", "over"];
    assert_eq!(world.actions(), ended);
}

#[test]
fn cancellation_of_one_makes_room_for_those_that_stay() {
    let mut world = World::away(&["a", "b", "c"], 1, 0);
    world.dispatcher.handle_connected("c", world.now);

    let nodes = ["a".to_owned(), "b".to_owned()];
    world
        .dispatcher
        .handle_cancel(&world.command, Some(&nodes), world.now);

    assert_eq!(world.actions(), ["a Cancelled", "b Cancelled", "send c"]);
}

#[test]
fn command_that_is_taken_up_after_too_many_errors_is_not_sent() {
    let (mut dispatcher, now) = (Dispatcher::default(), Instant::now());
    dispatcher.handle_connected("b", now);
    let order = Order {
        errors: 2,
        ..order(
            &[("a", Progress::Delivered(now)), ("b", Progress::New)],
            now,
        )
    };
    let mut world = World {
        command: order.command.clone(),
        dispatcher,
        now,
    };

    world.dispatcher.handle_order(
        Order {
            max_errors: 1,
            ..order
        },
        now,
    );

    assert_eq!(world.actions(), ["b Terminated"]);
    world.ended("a", InvocationStatus::Success);
    assert_eq!(world.actions(), ["over"]);
}

#[test]
fn command_without_nodes_is_over_at_once() {
    let mut world = World::new(&[], 1, 0);

    assert_eq!(world.actions(), ["over"]);
}

#[test]
fn what_does_not_reach_its_node_is_no_error() {
    let mut world = World::new(&["a", "b", "c"], 1, 0);
    world.actions();
    world.answer("a", JobAnswer::InvalidDocument);
    assert_eq!(world.actions(), ["a Undeliverable", "send b"]);

    world.dispatcher.handle_disconnected("b");
    world.pass(HOUR);

    let ended = ["b DeliveryTimedOut", "c DeliveryTimedOut", "over"];
    assert_eq!(world.actions(), ended);
}

#[test]
fn refusals_for_good_end_it() {
    for (answer, status) in [
        (JobAnswer::ContainerNotSupported, "a Undeliverable"),
        (JobAnswer::UnexpectedDocumentType, "a Undeliverable"),
    ] {
        let mut world = World::new(&["a"], 50, 0);
        world.actions();
        world.answer("a", answer);
        assert_eq!(world.actions(), [status, "over"]);
    }
    let mut world = World::new(&["a"], 50, 0);
    world.actions();
    world.answer("a", JobAnswer::ParseError);
    assert_eq!(world.actions(), [""; 0], "its reason is on the way");
    world.ended("a", InvocationStatus::Failed);
    assert_eq!(world.actions(), ["over"]);
}

#[test]
fn cancellation_reaches_what_was_sent_and_ends_what_was_not() {
    let mut world = World::new(&["a", "b"], 1, 0);
    world.actions();
    world.answer("a", JobAnswer::Successful);
    world.actions();

    world
        .dispatcher
        .handle_cancel(&world.command, None, world.now);

    assert_eq!(world.actions(), ["a Cancelling", "cancel a", "b Cancelled"]);
    // It was away: it is told again.
    world.dispatcher.handle_connected("a", world.now);
    assert_eq!(world.actions(), ["cancel a"]);
    world.ended("a", InvocationStatus::Cancelled);
    assert_eq!(world.actions(), ["over"]);
}

#[test]
fn cancellation_is_told_again_until_the_result_comes() {
    let mut world = World::new(&["a"], 1, 0);
    world.answer("a", JobAnswer::Successful);
    world
        .dispatcher
        .handle_cancel(&world.command, None, world.now);
    world.actions();

    for wait in [2, 4, 8] {
        world.pass((wait - 1) * SECOND);
        assert_eq!(world.actions(), [""; 0], "{wait}");
        world.pass(SECOND);
        assert_eq!(world.actions(), ["cancel a"], "{wait}");
    }
    world.ended("a", InvocationStatus::Cancelled);
    assert_eq!(world.actions(), ["over"]);
    world.pass(60 * SECOND);
    assert_eq!(world.actions(), [""; 0]);
}

#[test]
fn node_is_not_told_of_a_cancellation_for_ever_nor_while_it_is_away() {
    let mut world = World::new(&["a"], 1, 0);
    world.answer("a", JobAnswer::Successful);
    world
        .dispatcher
        .handle_cancel(&world.command, None, world.now);
    world.actions();

    let mut told = 1;
    for _ in 0..600 {
        world.pass(SECOND);
        told += world.actions().len();
    }
    assert_eq!(told, 8);

    world.dispatcher.handle_disconnected("a");
    world.dispatcher.handle_connected("a", world.now);
    assert_eq!(world.actions(), ["cancel a"]);
    world.dispatcher.handle_disconnected("a");
    world.pass(60 * SECOND);
    assert_eq!(world.actions(), [""; 0]);
}

#[test]
fn cancelled_command_that_its_node_had_no_room_for_is_not_offered_again() {
    for answer in [JobAnswer::ProcessorBufferFull, JobAnswer::ClosedProcessor] {
        let mut world = World::new(&["a"], 1, 0);
        world
            .dispatcher
            .handle_cancel(&world.command, None, world.now);
        assert_eq!(world.actions(), ["send a", "a Cancelling", "cancel a"]);

        world.answer("a", answer);

        assert_eq!(world.actions(), ["a Cancelled", "over"]);
        world.pass(60 * SECOND);
        assert_eq!(world.actions(), [""; 0]);
    }
}

#[test]
fn cancellation_of_some_leaves_the_others() {
    let mut world = World::new(&["a", "b"], 2, 0);
    world.actions();

    let nodes = ["b".to_owned()];
    world
        .dispatcher
        .handle_cancel(&world.command, Some(&nodes), world.now);

    assert_eq!(world.actions(), ["b Cancelling", "cancel b"]);
}

#[test]
fn node_that_never_reports_is_given_up() {
    let mut world = World::new(&["a"], 50, 0);
    world.answer("a", JobAnswer::Successful);
    world.actions();

    world.pass(2 * HOUR);

    assert_eq!(world.actions(), ["a ExecutionTimedOut", "over"]);
}

#[test]
fn commands_are_taken_up_where_they_were() {
    let now = Instant::now();
    let mut dispatcher = Dispatcher::default();
    dispatcher.handle_connected("b", now);
    let nodes = [
        ("a", Progress::Delivered(now)),
        ("b", Progress::New),
        ("c", Progress::Cancelling(now)),
    ];
    let order = order(&nodes, now);
    let mut world = World {
        command: order.command.clone(),
        dispatcher,
        now,
    };

    world.dispatcher.handle_order(order, now);
    assert_eq!(world.actions(), ["send b"]);
    world.dispatcher.handle_connected("a", now);
    world.dispatcher.handle_connected("c", now);
    assert_eq!(world.actions(), ["cancel c"]);
}

/// To three nodes at once, without an error, within an hour, for two hours.
fn order(nodes: &[(&str, Progress)], now: Instant) -> Order {
    let nodes = nodes.iter().map(|(node, at)| ((*node).to_owned(), *at));
    Order {
        command: CommandId::new("c-1").unwrap(),
        nodes: nodes.collect(),
        max_concurrency: 3,
        max_errors: 0,
        errors: 0,
        expires: now + HOUR,
        execution: 2 * HOUR,
    }
}
