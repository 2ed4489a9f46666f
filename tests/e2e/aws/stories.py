"""Stories with the AWS CLI and boto3 against our gateway, our agent and our plugin.

Called by tests/e2e/aws/run with the folder of the compiled programs, and perhaps parts of the names
of the stories to tell. Every program runs with its own temporary folder on the loopback interface; all
are ended at the end.
"""

import logging
import os
import signal
import sys
import threading

import commands
import deliveries
import documents
import encryption
import inventory
import packages
import ports
import recordings_casts
import recordings_logs
import recordings_s3
import remote_content
import run_commands
import sessions
import shells
import ssh
from teller import Teller
from world import World

# Told once.
API = [
    sessions.boto3_sees_the_node_and_its_sessions,
    sessions.boto3_gets_errors_in_awss_shapes,
    sessions.boto3_pages_through_activations,
    documents.boto3_writes_reads_and_deletes_documents,
    documents.boto3_lists_the_documents_of_amazon_and_its_own,
    encryption.encrypted_session_shows_nothing_on_the_wire,
    run_commands.boto3_runs_commands_and_gets_their_streams,
    run_commands.boto3_waits_for_a_command,
    run_commands.parameters_reach_the_script_as_they_are,
    run_commands.documents_of_ones_own_run_step_by_step,
    run_commands.documents_end_as_the_table_says,
    run_commands.refused_commands_have_awss_error_codes,
    run_commands.parameters_are_kept_and_reach_scripts,
    run_commands.commands_go_to_nodes_by_tag,
    run_commands.cancelled_command_ends_with_everything_it_started,
    run_commands.late_command_is_timed_out,
    run_commands.commands_survive_the_death_of_the_agent_once,
    run_commands.secure_strings_are_shown_to_who_asks_for_decryption_and_never_to_scripts,
    run_commands.commands_survive_the_death_of_the_gateway,
    run_commands.output_goes_to_s3_and_cloudwatch_logs,
    run_commands.long_output_is_cut_in_the_reply_and_whole_on_disk,
    inventory.boto3_gathers_and_lists_inventory,
    inventory.associations_are_asked_to_be_applied,
    packages.packages_are_documents_with_attachments,
    packages.package_is_installed_upgraded_and_uninstalled,
    packages.package_is_updated_in_place,
    packages.failing_install_is_rolled_back,
    packages.package_that_is_not_what_its_manifest_says_is_not_unpacked,
    packages.install_survives_the_death_of_the_agent_once,
    packages.cancelled_install_ends_with_its_script,
    packages.docker_is_asked_by_its_arguments,
    packages.plugins_that_cannot_do_it_say_why,
    remote_content.remote_script_comes_from_s3,
    remote_content.large_content_from_s3_is_whole,
    remote_content.remote_script_comes_from_git,
    remote_content.remote_script_comes_over_http,
    remote_content.documents_run_documents,
    remote_content.commands_with_content_survive_the_death_of_the_agent_once,
    remote_content.cancelled_command_ends_the_documents_within_it,
    deliveries.commands_are_polled_for_where_the_message_gateway_cannot_be_reached,
    deliveries.polled_commands_survive_the_deaths_of_agent_and_gateway_once,
    deliveries.commands_change_ways_and_run_once,
    deliveries.commands_are_left_on_the_host,
]
# Told once for each version of the AWS CLI.
CLI = [
    documents.cli_manages_documents,
    documents.preferences_of_the_account_reach_the_shell,
    encryption.encrypted_shell_works,
    encryption.encrypted_commands_work,
    encryption.key_that_kms_does_not_know_ends_the_session_with_its_reason,
    commands.interactive_command_has_a_terminal_and_an_exit_status,
    commands.non_interactive_command_keeps_its_streams_apart,
    commands.output_of_a_command_is_any_bytes,
    commands.refused_starts_have_awss_error_codes,
    run_commands.cli_sends_waits_and_reads,
    packages.cli_configures_packages,
    remote_content.cli_runs_remote_scripts_and_documents,
    ports.port_carries_many_connections_with_their_half_close,
    ports.refused_connection_is_told_and_the_session_stays,
    ports.port_leads_to_a_host_by_name_and_address,
    ports.forbidden_host_is_refused_with_a_reason,
    ports.sockets_of_the_client_and_of_the_host_are_joined,
    ssh.openssh_runs_commands,
    ssh.openssh_copies_files,
    shells.cli_shell_works,
    shells.cli_paste_of_a_megabyte_loses_nothing,
    shells.cli_recording_replays_byte_for_byte,
    shells.cli_leaves_with_tilde_dot,
    recordings_casts.recording_of_vim_replays_byte_for_byte,
    recordings_casts.recording_of_top_replays_byte_for_byte,
    shells.vim_in_tmux_draws_and_follows_the_size,
    recordings_s3.record_of_a_shell_is_at_the_key_with_the_headers_of_the_reference,
    recordings_s3.record_is_in_the_bucket_while_the_session_runs,
    recordings_s3.long_record_is_whole,
    recordings_s3.record_survives_the_death_of_the_agent_once,
    recordings_s3.unencrypted_bucket_refuses_the_session,
    recordings_s3.missing_bucket_holds_up_no_session,
    recordings_logs.records_are_streamed_with_the_fields_of_the_reference,
    recordings_logs.text_of_a_session_is_there_at_its_end,
    recordings_logs.long_records_are_streamed_whole,
    recordings_logs.streamed_records_survive_the_death_of_the_agent_once,
    recordings_logs.unencrypted_group_refuses_the_session,
    recordings_logs.missing_group_holds_up_no_session,
    recordings_s3.what_a_person_deletes_before_they_kill_the_agent_stays_in_the_bucket,
    shells.killed_agent_ends_the_cli_within_ten_seconds,
]
# Told once with all of them, in a world of its own beside the others.
TOGETHER = [
    sessions.idle_and_old_sessions_end_with_a_reason,
    recordings_s3.missing_bucket_refuses_the_session_where_records_have_to_be,
    recordings_logs.missing_group_refuses_the_session_where_records_have_to_be,
    recordings_casts.cast_is_beside_the_text_in_the_bucket,
    recordings_casts.long_cast_is_whole_after_the_death_of_the_agent,
    shells.folder_that_cannot_be_made_refuses_the_session_where_files_have_to_be,
]


def main(programs, *parts):
    clients = {"AWS CLI v1 (PyPI)": os.path.join(os.path.dirname(sys.executable), "aws")}
    if os.path.exists("/usr/bin/aws"):
        clients["AWS CLI v2 (Debian)"] = "/usr/bin/aws"
    stories = [(story.__name__, story, ()) for story in API]
    stories += [(f"{story.__name__}, {name}", story, (path,)) for name, path in clients.items() for story in CLI]
    beside = [(story.__name__, story, clients.values()) for story in TOGETHER]
    def is_wanted(story):
        return not parts or any(part in story[0] for part in parts)
    teller, other = (Teller(World(programs), list(filter(is_wanted, chosen))) for chosen in (stories, beside))
    thread = threading.Thread(target=other.tell, daemon=True)
    try:
        thread.start()
        teller.tell()
        thread.join()
    finally:
        teller.end()
        other.end()
    passed, failed = teller.passed + other.passed, teller.failed + other.failed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    # Moto's server says every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.exit(main(*sys.argv[1:]))
