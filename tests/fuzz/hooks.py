"""What schemathesis cannot know from an OpenAPI document and its configuration cannot say."""
import schemathesis


def is_exact(value):
    """A JSON number has to be one that a parser holds exactly, also in a field that nobody reads."""
    if isinstance(value, dict):
        return all(is_exact(inner) for inner in value.values())
    if isinstance(value, list):
        return all(is_exact(inner) for inner in value)
    return not isinstance(value, (int, float)) or abs(value) <= 2**53


@schemathesis.hook
def filter_body(context, body):
    return is_exact(body)


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
