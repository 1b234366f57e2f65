"""The bytes of one radiograph out of a request: multipart or raw, by declared type and within the size limit.

Nothing is decoded here. Pixels of strangers are unpacked behind Triton, in a process that holds no patient data.
"""

from collections.abc import AsyncGenerator

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serving.gateway.problems import Problem

LIMIT_BYTES = 100 * 1024 * 1024
IMAGE_TYPES = {"application/dicom", "image/png", "image/jpeg", "application/octet-stream"}
ENVELOPE_BYTES = 64 * 1024  # boundaries and headers of a multipart body, beside the image


async def read_upload(request: Request, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return the encoded image. Raises Problem 400, 413 or 415; never holds more than the limit."""
    media_type = _media_type(request.headers.get("content-type"))
    if media_type == "multipart/form-data":
        data = await _multipart(request, limit_bytes)
    else:
        _check_type(media_type)
        data = b"".join([chunk async for chunk in _limited(request, limit_bytes)])
    if not data:
        raise Problem(400, "empty", "the request holds no image; send the bytes of a DICOM, PNG or JPEG file")
    return data


async def _multipart(request: Request, limit_bytes: int) -> bytes:
    try:
        parser = MultiPartParser(request.headers, _limited(request, limit_bytes + ENVELOPE_BYTES), max_files=2)
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError) as error:
        raise Problem(400, "malformed", "the multipart body cannot be read; send one part with a file name") from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise Problem(400, "not_one_file", f"the request holds {len(files)} files; send one radiograph per request")
        _check_type(_media_type(files[0].content_type))
        data = await files[0].read(limit_bytes + 1)
    finally:
        await form.close()
    if len(data) > limit_bytes:
        raise _too_large(limit_bytes)
    return data


async def _limited(request: Request, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body as it arrives; ends the request as soon as the declared or the real size passes the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit_bytes:
                raise _too_large(limit_bytes)
            yield chunk
    except ClientDisconnect as error:
        raise Problem(400, "malformed", "the connection ended before the image was complete") from error


def _check_type(media_type: str) -> None:
    if media_type not in IMAGE_TYPES:
        raise Problem(
            415, "unsupported_type", f"this content type is not accepted; use one of {', '.join(sorted(IMAGE_TYPES))}"
        )


def _media_type(header: str | None) -> str:
    """The type without parameters; a sender that states none sends bytes."""
    return (header or "application/octet-stream").partition(";")[0].strip().lower()


def _too_large(limit_bytes: int) -> Problem:
    return Problem(413, "too_large", f"the image is larger than the limit of {limit_bytes // 1024**2} MB")
