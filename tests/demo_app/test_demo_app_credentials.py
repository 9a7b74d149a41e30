"""The credentials file: what parses, what is refused, what is masked."""

from __future__ import annotations

import pytest

from labkit.demo_app.credentials import MASK, CredentialsError, masked, parse

GOOD = b'db_con="c"\ndb_user="u"\n'


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (r'db_password="plain"', "plain"),
        (r'  db_password = "spaced"   # a comment', "spaced"),
        (r'db_password="a # is no comment"', "a # is no comment"),
        (r'db_password="a\"b\\c\n\t/"', 'a"b\\c\n\t/'),
        (r'db_password="C:\q"', "C:\\q"),
        (r'db_password="\u0026\x26"', "&&"),
        (r'db_password="\ud83d\ude00 \U0001f600 é"', "😀 😀 é"),
        ('db_password="line\u2028separator"\r', "line\u2028separator"),
    ],
)
def test_a_value_is_read_as_it_was_meant(line: str, value: str) -> None:
    found = parse(b"\xef\xbb\xbf# comment\n\n" + GOOD + line.encode() + b'\nextra="1"\n')
    assert found.values["db_password"] == value
    assert found.lines == {"db_con": 3, "db_user": 4, "db_password": 5, "extra": 6}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the file is empty"),
        (b"\n  \n", "the file is empty"),
        (GOOD, "db_password is missing"),
        (b'# nothing\ndb_user="u"\n', "db_con, db_password are missing"),
        (GOOD + b'db_password=""\n', "db_password is empty"),
        (GOOD + b'db_password="hunter2', "line 3: the closing quote is missing"),
        (GOOD + b'db_password="hunter2\\"', "line 3: the closing quote is missing"),
        (GOOD + b"db_password=hunter2\n", "line 3: the value must stand in double quotes"),
        (GOOD + b'db_password="x" hunter2\n', "line 3: there is text after the closing quote"),
        (GOOD + b"hunter2\n", 'line 3: expected key="value"'),
        (GOOD + b'db_user="hunter2"\n', "line 3: repeats the key of line 2"),
        (GOOD + b'db_password="\\ud800hunter2"', "line 3: an escape is not a character"),
        (GOOD + b'db_password="\\U00110000"', "line 3: an escape is not a character"),
        (GOOD + b'db_password="\\x00hunter2"', "line 3: the value holds a NUL character"),
        (GOOD + b'db_password="hunter2\xff"', "line 3: this is not UTF-8 text"),
    ],
)
def test_an_error_names_the_line_and_never_the_value(text: bytes, message: str) -> None:
    with pytest.raises(CredentialsError) as error:
        parse(text)
    assert str(error.value) == message
    assert "hunter2" not in str(error.value)


def test_secrets_are_masked_also_inside_other_values() -> None:
    values = {
        "db_con": "mysql://u:s3cret@db/x",
        "db_user": "u",
        "db_password": "s3cret",
        "pin": "1",
    }
    shown = masked({**values, "API_TOKEN": "t"})
    assert shown == {
        "db_con": f"mysql://u:{MASK}@db/x",
        "db_user": "u",
        "db_password": MASK,
        "pin": "1",
        "API_TOKEN": MASK,
    }
    assert "s3cret" not in repr(parse(GOOD + b'db_password="s3cret"'))
