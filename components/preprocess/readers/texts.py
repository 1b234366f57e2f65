"""Foreign text: bytes to characters, and many lines to one."""

import codecs


def unwrap(text: str | None) -> str | None:
    """Join lines and runs of white space to single spaces; nothing else is touched. None stays None, "" stays ""."""
    return None if text is None else " ".join(text.split())


def decode(data: bytes) -> tuple[str, bool]:
    """The text of a file and whether it was read as Latin-1, which is tried when it is not UTF-8. Never fails.

    A byte order mark is dropped. Latin-1 gives every byte a character, so True means "not UTF-8", not "surely Latin-1".
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        return data.decode("latin-1"), True
