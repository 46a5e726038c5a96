"""Reads CSV: every column as text, so that the room's own rules decide what it means."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.csv as arrow_csv

from everloop.errors import Invalid

_DELIMITERS = (",", ";", "\t", "|")
_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 32 << 20  # also the longest record that is read


def read_csv(data: bytes, name: str) -> pa.Table:
    """The rows as columns of text. An empty field is missing; one written `""` is the empty text.

    The first record names the columns. The delimiter is the one of comma, semicolon, tab and bar that the header
    has most of. Quotes, doubled quotes and line breaks inside quotes are as in RFC 4180; a byte order mark is
    skipped.

    Raises
    ------
    Invalid
        Not UTF-8, a record with more or fewer fields than the header, a quote that is not closed; with the line.
    """
    delimiter, names = _header(data, name)
    try:
        rows = arrow_csv.read_csv(
            io.BytesIO(data),
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        # Arrow's message shows the record, which may hold personal data: neither the text nor the cause is passed on.
        _explain(data, name, delimiter, len(names))
        raise Invalid(f"{name} cannot be read as CSV; RFC 4180 is understood. Write it again.") from None
    # Arrow reads on to the end of the file when a quote is not closed, and swallows the rows in between; in the last
    # field there are none, but an odd number of quotes.
    if rows.num_rows != data.rstrip(b"\r\n").count(b"\n") or data.count(b'"') % 2:
        _explain(data, name, delimiter, len(names))
    return rows.rename_columns([column.strip() for column in names])


def _header(data: bytes, name: str) -> tuple[str, list[str]]:
    """The delimiter and the names as they are written."""
    start = data[:_HEADER_BYTES].decode("utf-8-sig", errors="replace").lstrip("\r\n")
    first = start.split("\n", maxsplit=1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    names = next(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter))
    for position, column in enumerate(names, start=1):
        if not column.strip():
            raise Invalid(
                f"{name}: column {position} has no name; the first line names all {len(names)} columns. Add the name "
                "(pandas leaves its index out with to_csv(..., index=False))."
            )
        if names.count(column) > 1:
            raise Invalid(
                f"{name}: the column {column!r} is there twice; names are unique. Rename one of them."
            )
    return delimiter, names


def _explain(data: bytes, name: str, delimiter: str, width: int) -> None:
    """Raise Invalid for the first line that is wrong, if one is: a slow second look, only at doubtful files."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Invalid(
            f"{name}, line {line} is not UTF-8: it has the byte 0x{data[error.start]:02x}. CSV is read as UTF-8. "
            "Convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None  # the cause holds the whole file
    # Python stops at fields of 128 KB, Arrow does not; the limit is the process's, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for record in reader:
            if record and len(record) != width:
                raise Invalid(
                    f"{name}, line {begins} has {len(record)} fields and the header has {width}; they must be equal. "
                    "Put fields that contain the delimiter into quotes, and double the quotes inside them."
                )
            begins = reader.line_num + 1
    except csv.Error:
        raise Invalid(
            f"{name}, line {begins}: a quote is not closed, or text follows the closing one. A field in quotes ends "
            'with a quote before the next delimiter, and a quote inside it is written twice ("").'
        ) from None
