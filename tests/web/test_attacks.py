"""The attacks that are tried, and where: each is a test that can fail. One that is taken away, or renamed, fails here.

Attacks are named as those who try them name them. A name that stands for several ways is one attack; the tests hold
the ways.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ATTACKS: dict[str, str] = {
    # Access tokens
    "alg none": "web/test_attacks_tokens.py::test_a_forged_token_is_refused",
    "key confusion: HS256 with the public key": "web/test_attacks_tokens.py::test_a_forged_token_is_refused",
    "kid injection: path, SQL, URL, command": "web/test_attacks_tokens.py::test_a_forged_token_is_refused",
    "a key brought along: jwk, jku, x5u, x5c": "web/test_attacks_tokens.py::test_a_forged_token_is_refused",
    "a token of another environment": "web/test_attacks_tokens.py::test_a_forged_token_is_refused",
    "a token of a dropped key": "web/test_attacks_tokens.py::test_a_forged_token_is_refused",
    "claims that are missing, in the future, without end": "security/test_security.py::test_forged_tokens_are_invalid",
    "an expired token": "web/test_attacks_tokens.py::test_a_token_that_has_expired_is_told_so",
    "a token where none belongs": "web/test_attacks_tokens.py::test_a_token_counts_in_its_header_only",
    "a token after its session": "flows/test_sessions.py::test_logout_counts_in_every_process_in_time",
    # Sessions
    "refresh replay": "flows/test_sessions.py::test_tokens_follow_each_other_and_one_used_twice_ends_the_session",
    "refresh of another's session": "web/test_sessions.py::test_tokens_that_were_never_given_do_nothing",
    "session fixation": "web/test_sessions.py::test_no_session_is_chosen_by_its_client",
    "one kind of token for the other": "web/test_attacks_tokens.py::test_a_token_of_one_kind_is_none_of_the_other",
    # The second factor
    "a code replayed": "web/test_second_factors.py::test_a_code_is_good_once",
    "a code replayed by two at once": "flows/test_second_factors.py::test_of_logins_with_one_code_at_once_one_gets_in",
    "a recovery code replayed": "web/test_second_factors.py::test_each_recovery_code_is_good_once",
    "guessing codes": "web/test_second_factors.py::test_codes_are_guessed_as_seldom_as_passwords",
    "guessing codes with a stolen token": "web/test_second_factors.py::test_a_stolen_token_guesses_no_code",
    "a second factor put on with a stolen token":
        "web/test_second_factors.py"
        "::test_beginning_asks_for_the_password_and_changes_nothing_of_one_that_is_on",
    "a second factor taken away by whom it keeps out": "web/test_second_factors.py::test_an_admin_resets_it",
    "codes and recovery codes of one that was turned off":
        "web/test_second_factors.py"
        "::test_turned_off_by_the_password_or_a_code",
    "user enumeration: second step": "web/test_second_factors.py::test_nobody_without_the_password_learns_of_it",
    "a session of a disabled account with a second factor":
        "flows/test_second_factors.py"
        "::test_a_disabled_account_keeps_no_session_and_is_asked_for_no_code",
    # API keys
    "an API key beyond its scopes": "web/test_api_keys.py::test_scopes_are_what_a_key_may_do",
    "an API key of an admin without the scope": "web/test_api_keys.py::test_a_key_of_an_admin_is_one_only_by_its_scope",
    "an API key that makes or sees keys, sessions, passwords":
        "web/test_api_keys.py"
        "::test_what_no_key_may_do_whatever_its_scopes",
    "an API key with the secret of another account": "web/test_api_keys.py::test_keys_of_others_are_not_there",
    "an API key after its end": "flows/test_api_keys.py::test_made_used_and_revoked_in_every_process",
    "an API key after the account lost its role":
        "web/test_api_keys.py"
        "::test_a_key_does_no_more_than_the_role_that_its_account_has_now",
    "guessing API keys": "web/test_api_keys.py::test_wrong_keys_are_limited_and_right_ones_are_not",
    "mangled API keys": "web/test_attacks_tokens.py::test_a_mangled_api_key_is_refused",
    # Tokens of mails
    "replay of a token": "domain/test_account_mails.py"
        "::test_a_forgotten_password_is_set_anew_once_and_shows_that_the_address_is_read",
    "an old token after a new one":
        "domain/test_account_mails.py"
        "::test_a_newer_token_ends_the_older_one_and_time_ends_both",
    "a token of another account, purpose, environment, key":
        "web/test_mails.py"
        "::test_a_token_that_is_none_is_refused_before_any_work",
    "a token used twice at once":
        "flows/test_mail.py"
        "::test_an_account_is_verified_its_password_forgotten_and_its_address_changed",
    "a token read from Kafka": "web/test_mails.py::test_no_token_is_in_what_goes_through_kafka",
    "a change of address that waits for the owner to come back":
        "domain/test_account_mails.py"
        "::test_another_password_ends_what_was_asked_for_with_the_old_one",
    "a flood of mails":
        "delivery/test_mail.py"
        "::test_no_address_gets_more_than_so_many_of_a_kind_whoever_asks",
    "mail header and command injection": "providers/test_smtp.py::test_an_address_brings_nothing_along",
    # Things of others
    "every role at every route": "flows/test_roles.py::test_everybody_meets_every_endpoint",
    "IDOR: resources": "web/test_attacks_objects.py::test_what_is_private_is_answered_as_what_is_not_there",
    "IDOR: batches": "web/test_attacks_objects.py::test_a_batch_reaches_nothing_of_others",
    "IDOR: sessions": "web/test_sessions.py::test_those_of_others_are_not_there",
    "IDOR: operations": "web/test_attacks_objects.py::test_an_operation_has_one_address_and_one_owner",
    "IDOR: answers of an idempotency key":
        "web/test_attacks_objects.py"
        "::test_the_key_of_another_opens_none_of_its_answers",
    "IDOR: users": "web/test_attacks_objects.py::test_ones_own_account_is_no_way_into_the_admins_endpoints",
    "IDOR: dead letters": "web/test_dead_letters.py::test_only_admins",
    "IDOR: metrics": "web/test_analytics.py::test_what_one_may_not_see_is_as_what_does_not_exist",
    "IDOR: by filters": "web/test_attacks_objects.py::test_the_lists_of_others_are_not_asked_for_by_a_filter",
    "a stolen token that guesses passwords": "web/test_limits.py::test_a_stolen_token_is_no_way_to_guess_the_password",
    "mass assignment: resources":
        "web/test_attacks_objects.py"
        "::test_a_resource_takes_along_nothing_that_is_not_its_callers",
    "mass assignment: batches": "web/test_attacks_objects.py::test_a_batch_takes_along_nothing_either",
    "mass assignment: accounts": "web/test_attacks_objects.py::test_nothing_is_taken_along_with_an_account",
    # Queries
    "SQL in filters, sort, cursor, q, paths":
        "flows/test_attacks.py"
        "::test_nothing_that_is_asked_for_is_ever_part_of_a_statement",
    "SQL in what is stored": "flows/test_attacks.py::test_what_is_no_ones_own_is_not_found_by_sql",
    "a cursor with a bit flipped": "web/test_attacks_cursors.py::test_a_cursor_with_a_bit_changed_is_none",
    "a cursor of another list": "web/test_attacks_cursors.py::test_a_cursor_that_others_made_is_none",
    "a cursor of another user": "flows/test_attacks.py::test_the_cursor_of_another_shows_what_its_holder_may_see",
    # Text that wants to be more
    "stored XSS in answers": "web/test_attacks_text.py::test_text_of_people_is_never_served_as_a_page",
    "stored XSS in the page of live tables": "browser/test_live_page.py::test_text_of_strangers_stays_text",
    "stored XSS in what is found": "web/test_contract.py::test_what_is_found_is_shown_escaped_with_marks",
    "reflected XSS": "web/test_attacks_text.py::test_a_page_repeats_nothing_of_its_address",
    "header injection": "web/test_attacks_text.py::test_a_header_brings_no_header_and_no_line_along",
    "log injection": "web/test_attacks_text.py::test_a_line_for_people_is_one_line_whatever_it_tells",
    "path traversal": "web/test_attacks_text.py::test_a_path_leads_to_nothing_else",
    "a guard passed by another spelling":
        "web/test_attacks_text.py"
        "::test_a_guarded_address_is_guarded_however_it_is_spelled",
    "request smuggling: CL.TE, TE.CL, TE.TE":
        "web/test_smuggling.py"
        "::test_what_two_servers_could_read_in_two_ways_is_read_in_none",
    "request smuggling: CL.0": "web/test_smuggling.py::test_a_body_that_nobody_reads_is_no_request",
    "request smuggling: another protocol": "web/test_smuggling.py::test_nobody_is_talked_into_another_protocol",
    # Work
    "ReDoS: schemas of kinds": "web/test_attacks_bombs.py::test_what_satisfies_no_schema_is_found_out_in_time",
    "ReDoS: questions": "web/test_attacks_bombs.py::test_a_question_takes_no_longer_than_its_text",
    "a packed bomb": "web/test_unreadable.py::test_a_packed_body_is_not_unpacked_further_than_its_limit",
    "a JSON bomb: depth, keys, numbers": "web/test_attacks_bombs.py::test_a_body_costs_no_more_than_reading_it",
    "a schema that refers to itself":
        "web/test_attacks_bombs.py"
        "::test_a_schema_refers_to_nothing_but_its_parts_and_never_to_itself",
    "slow loris": "web/test_connections.py::test_a_head_that_comes_byte_by_byte_is_not_waited_for",
    # Guesses
    "user enumeration: login": "web/test_attacks_guesses.py::test_a_login_that_fails_is_the_same_for_whomever",
    "user enumeration: by a clock": "flows/test_enumeration.py::test_no_clock_tells_who_has_an_account",
    "user enumeration: registration":
        "web/test_attacks_guesses.py"
        "::test_where_registration_is_private_an_address_that_is_taken_costs_what_a_free_one_does",
    "user enumeration: refresh": "web/test_attacks_guesses.py::test_a_refresh_that_fails_is_the_same_whyever",
    "user enumeration: forgotten passwords":
        "web/test_mails.py"
        "::test_forgetting_is_answered_the_same_for_whomever",
    "user enumeration: another address":
        "web/test_mails.py"
        "::test_in_private_no_change_of_address_tells_that_one_is_taken",
    "password spraying": "web/test_limits.py::test_spraying_passwords_over_many_accounts_is_bounded_by_address",
    "guesses from many addresses":
        "web/test_limits.py"
        "::test_one_account_from_many_addresses_is_bounded_and_its_owner_gets_in",
    "a forged forwarding header": "web/test_limits.py::test_a_forged_forwarding_header_gives_nobody_a_second_quota",
    "a forged address behind our proxy": "web/test_clients.py::test_the_callers_address_behind_proxies",
    "CORS: null and look-alikes": "web/test_cors.py::test_who_only_looks_like_it_is_told_nothing",
    # Races
    "two registrations of one address":
        "flows/test_accounts.py"
        "::test_of_two_who_register_one_address_at_once_one_has_it_and_after_an_erasure_the_next",
    "two changes with one ETag": "flows/test_attacks.py::test_of_changes_with_one_etag_one_is_made",
    "an idempotency key spent twice": "flows/test_attacks.py::test_a_key_is_spent_once_whoever_is_faster",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_its_test(attack: str) -> None:
    file, _, name = ATTACKS[attack].partition("::")
    source = (ROOT / file).read_text("utf-8")
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)
    assert not re.search(r"mark\.(skip|xfail)", source)
