"""Stories of our packages on a Debian with a booted systemd.

Called by tests/host/run with the folders of our programs, of the packages and of the Debian, with the
network namespace of the host, and perhaps with parts of the names of the stories to tell. They follow
one another: the first ones install and register what later ones use, and are always told.
"""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../e2e/aws"))

import agent
import environment
import figures
import identity
import login
import others
import sick
import steps
import survival
import teller
import units
from host import HostWorld

FIRST = [
    agent.installation_asks_nothing_and_waits_for_a_registration,
    agent.registered_agent_is_online_without_a_command,
]
THEN = [
    agent.template_becomes_a_configuration_as_the_readme_says,
    agent.files_of_the_agent_are_for_root_only,
    agent.shell_is_of_ssm_user_with_sudo_and_nothing_of_the_agents,
    units.systemd_takes_the_units_and_says_how_exposed_they_are,
    units.presets_and_priorities_are_as_the_service_manager_wants_them,
    units.packages_hold_these_files_and_no_others,
    units.limits_of_the_agent_do_not_reach_what_it_starts,
    agent.killed_agent_is_online_again_within_seconds,
    agent.agent_that_hangs_is_started_again,
    survival.sessions_go_on_whatever_happens_to_the_agent,
    survival.agent_is_upgraded_from_within_a_session_and_by_a_command,
    survival.stopped_agent_leaves_a_way_in,
    survival.daemons_of_a_session_end_with_it_unless_they_may_stay,
    steps.cancelled_and_late_commands_leave_nothing_behind,
    steps.command_is_ended_whole_by_the_agent_that_comes_after_the_one_that_began_it,
    steps.what_a_command_leaves_goes_on_beside_the_agent,
    login.sessions_log_in_by_the_rules_of_the_host,
    login.what_sessions_of_pam_leave_behind_is_ended,
    login.who_may_not_log_in_is_told_why,
    agent.agent_that_must_not_start_again_stays_down,
    agent.same_package_again_keeps_node_and_configuration,
    agent.upgrade_runs_the_new_version_and_rollback_the_old_one,
    agent.disabled_agent_stays_disabled_when_upgraded,
    agent.agent_comes_back_with_the_same_id_after_removal_and_purge,
    agent.reference_is_replaced_with_its_node_and_can_come_back,
    identity.threshold_that_means_nothing_is_refused,
    identity.copy_of_a_registered_host_is_told_what_it_is,
    identity.host_forgets_who_it_is_and_is_registered_again,
    environment.agent_is_back_soon_after_names_resolve_again,
    environment.agent_with_a_wrong_clock_works,
    environment.agent_is_back_soon_after_its_address_changed,
    environment.host_with_ipv6_alone_is_online,
    environment.agent_behind_a_proxy_is_online,
    environment.agent_goes_by_the_names_of_fips_and_dual_stack_endpoints,
    sick.session_opens_on_full_disks,
    sick.session_opens_without_inodes,
    sick.session_opens_on_a_read_only_root,
    sick.session_whose_user_cannot_be_made_is_refused_with_the_reason,
    sick.session_opens_where_nothing_in_tmp_may_be_executed,
    sick.agent_needs_no_inotify,
    sick.session_without_free_process_ids_is_refused_and_the_next_one_opens,
    sick.session_opens_with_64_mib_of_memory_left,
    others.gateway_runs_as_its_own_user_under_its_hardening,
    others.gateway_is_upgraded_under_its_clients_and_leaves_its_data,
    others.client_runs_from_its_package,
    others.rpm_scripts_start_restart_and_stop_the_agent,
    others.rpm_of_the_gateway_starts_restarts_and_stops_it,
    others.rpms_are_installed_upgraded_and_erased,
    others.rpms_take_the_place_of_the_references,
    others.rpm_of_the_reference_is_replaced_with_its_node_and_can_come_back,
    steps.command_that_asks_for_a_reboot_goes_on_after_it_and_the_others_are_told,
    survival.host_that_goes_down_ends_its_sessions_with_the_reason,
    login.host_that_goes_down_ends_sessions_of_pam_with_the_reason,
]
# Told if asked for by name: they take minutes, and say something on a quiet machine only.
FIGURES = [
    figures.figures_of_an_idle_agent,
    figures.figures_of_a_start,
    figures.figures_of_gaps,
    figures.figures_of_a_soak,
]


class Teller(teller.Teller):
    """Stories of a host."""

    @staticmethod
    def begin(world):
        world.start()
        world.start_host()


def main(programs, packages, base, network, *parts):
    wanted = [story for story in THEN + FIGURES if any(part in story.__name__ for part in parts)]
    chosen = FIRST + (wanted if parts else THEN)
    world = HostWorld(programs, packages, base, network)
    teller = Teller(world, [(story.__name__, story, ()) for story in chosen])
    try:
        teller.tell()
    finally:
        teller.end()
    print(f"{teller.passed} passed, {teller.failed} failed")
    return 1 if teller.failed or teller.passed == 0 else 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.exit(main(*sys.argv[1:]))
