"""The set-ups: what is around the app. Each is a function that adds to a fresh one."""

from . import functions, protocol, stock
from .stock import SetUp

#: In the order of the tests. Names are unique: `functions.answers_early` is "functions.answers_early".
SETUPS: dict[str, SetUp] = {
    name: set_up
    for module, names in (
        (
            stock,
            "none cors_any cors_listed cors_pattern cors_any_credentials cors_nobody gzip gzip_everything trusted_host trusted_host_any"
            " https_redirect cors_in_gzip gzip_in_cors cors_gzip_trusted trusted_in_cors https_in_cors_in_gzip cors_twice gzip_twice"
            " session session_until_closed authentication session_authentication_cors",
        ),
        (
            functions,
            "adds_header reads_body consumes_stream reads_after replaces_answer reads_answer wraps_iterator answers_early raises catches"
            " knows_context sets_state changes_request adds_task streams_around base_class three_nested dispatch_function"
            " header_in_cors_in_gzip gzip_in_header catches_around_raises session_in_function",
        ),
        (
            protocol,
            "changes_path changes_method changes_query appends_header replaces_headers replaces_pair sorts_headers sets_scope copies_scope"
            " changes_root_path changes_scheme_and_client alters_body splits_body counts_body refuses_body disconnects rewrites_answer"
            " delays_start sends_immutable answers_early calls_twice swallows raises_before raises_after in_task with_timeout yields_before"
            " closure marking two_markings two_changes own_stack own_stack_in_layers own_call stack_replaced router_wrapped",
        ),
    )
    for name, set_up in ((f"{module.__name__.rpartition('.')[2]}.{name}", getattr(module, name)) for name in names.split())
}
