"""Foreign text, for any text and any bytes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from components.preprocess.readers.texts import decode, unwrap


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_unwrap_keeps_every_character_but_white_space(text: str) -> None:
    joined = unwrap(text)

    assert joined is not None
    assert "".join(joined.split()) == "".join(text.split())
    assert unwrap(joined) == joined
    assert "  " not in joined and "\n" not in joined and joined == joined.strip()


def test_unwrap_keeps_a_missing_text_apart_from_an_empty_one() -> None:
    assert unwrap(None) is None
    assert unwrap("") == ""
    assert unwrap(" \n\t") == ""


def test_unwrap_keeps_decimals_case_and_tokens() -> None:
    assert unwrap(" The tip is\n 4.1 cm above.  XXXX\r\n ___ ") == "The tip is 4.1 cm above. XXXX ___"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")))
def test_decode_reads_utf8_with_and_without_a_byte_order_mark(text: str) -> None:
    assert decode(text.encode()) == (text, False)
    assert decode(text.encode("utf-8-sig")) == (text, False)


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_decode_reads_any_bytes_and_says_when_they_were_not_utf8(data: bytes) -> None:
    text, latin = decode(data)

    if latin:
        assert text.encode("latin-1") == data.removeprefix(b"\xef\xbb\xbf")
    else:
        assert text.encode("utf-8") == data.removeprefix(b"\xef\xbb\xbf")


def test_decode_reads_latin1() -> None:
    assert decode("Größe 4,1 cm".encode("latin-1")) == ("Größe 4,1 cm", True)
    assert decode("Größe 4,1 cm".encode()) == ("Größe 4,1 cm", False)
