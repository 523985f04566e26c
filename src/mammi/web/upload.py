"""What a form sent, taken apart in memory: no part ever goes to a file, and the name of the file is not read."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mammi.web.guard import Refusal

__all__ = ["form_fields"]

#: Parts of a form, at most; ours has a handful.
MAX_PARTS = 16


def form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the fields of a ``multipart/form-data`` body by name; of those of one name, the last.

    Raises:
        Refusal: with status 415 for another media type, 400 for a body that is none.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal(415, "Films come through the form of this page (multipart/form-data).")
    parts: list[tuple[dict[bytes, bytes], list[bytes]]] = []
    header: list[bytes] = [b"", b""]

    def begin() -> None:
        if len(parts) == MAX_PARTS:
            raise Refusal(400, "The form has more fields than the one of this page.")
        parts.append(({}, []))

    def name(data: bytes, start: int, end: int) -> None:
        header[0] += data[start:end]

    def value(data: bytes, start: int, end: int) -> None:
        header[1] += data[start:end]

    def header_end() -> None:
        parts[-1][0][header[0].lower()] = header[1]
        header[:] = [b"", b""]

    def content(data: bytes, start: int, end: int) -> None:
        parts[-1][1].append(data[start:end])

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": name,
                "on_header_value": value,
                "on_header_end": header_end,
                "on_part_data": content,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, "The form is damaged: send it again.") from error
    fields = {}
    for headers, pieces in parts:
        _, about = parse_options_header(headers.get(b"content-disposition", b""))
        fields[about.get(b"name", b"").decode("utf-8", "replace")] = b"".join(pieces)
    return fields
