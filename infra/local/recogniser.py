"""A speech-to-text endpoint of one's own, for the tests and for `make run SPEECH=1`: it hears English, and needs no network.

`POST /v1/audio/transcriptions` as https://platform.openai.com/docs/api-reference/audio/createTranscription says it, as far as our code asks:
a form with `file`, `model`, and if one likes `language` and `response_format=json`. The recogniser is pocketsphinx with the model that its
wheel carries. SPEECH_ADDRESS says where it listens (port 0: any), on this machine only; SPEECH_KEY what it takes as a key.
"""

import email
import hmac
import io
import ipaddress
import json
import os
import socket
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import soundfile
from pocketsphinx import Decoder

PATH = "/v1/audio/transcriptions"
# The largest file, and the rest of a form around it, in bytes.
LARGEST = 25_000_000
AROUND = 100_000
# What the model was trained with, in samples a second.
SAMPLES = 16_000


class Refusal(Exception):
    """A request that is not served: the status, and why."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def samples(audio):
    """The samples of an audio file of any kind, mono, SAMPLES a second."""
    try:
        sound, rate = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise Refusal(400, "Audio file might be corrupted or unsupported") from error
    sound = sound.mean(axis=1)
    places = numpy.arange(0, len(sound), rate / SAMPLES)
    return numpy.interp(places, numpy.arange(len(sound)), sound) if len(sound) else sound


def words(audio):
    """What is said in an audio file, in lower case and without marks."""
    sound = (numpy.clip(samples(audio), -1, 1) * 32_767).astype(numpy.int16)
    if not len(sound):
        return ""
    # One that has heard nothing yet: it would judge loudness by what it heard before.
    decoder = Decoder(samprate=SAMPLES, loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(sound.tobytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    return heard.hypstr if heard else ""


def form(content_type, body):
    """The fields of a form, each by its name as bytes."""
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=policy.HTTP)
    if message.get_content_type() != "multipart/form-data" or not message.is_multipart():
        raise Refusal(400, "Could not parse multipart form")
    parts = message.iter_parts()
    return {it.get_param("name", header="content-disposition"): it.get_payload(decode=True) for it in parts}


def transcription(headers, body, key):
    """The answer to a request for a file's words."""
    given = headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        raise Refusal(401, "Incorrect API key provided")
    fields = form(headers.get("content-type", ""), body)
    if not fields.get("model"):
        raise Refusal(400, "you must provide a model parameter")
    if "file" not in fields:
        raise Refusal(400, "you must provide a file parameter")
    if len(fields["file"]) > LARGEST:
        raise Refusal(413, "Maximum content size limit exceeded")
    if not fields.get("language", b"en").lower().startswith(b"en"):
        raise Refusal(400, "This recogniser hears English only")
    if fields.get("response_format", b"json") != b"json":
        raise Refusal(400, "This recogniser answers in JSON only")
    return {"text": words(fields["file"])}


class Endpoint(BaseHTTPRequestHandler):
    """One connection of the endpoint."""

    protocol_version = "HTTP/1.1"
    key = os.environ.get("SPEECH_KEY") or "local-speech-key"

    def do_GET(self):
        """Is it there?"""
        self.answer(*((200, {"status": "ok"}) if self.path == "/health" else (404, failure("Not found"))))

    def do_POST(self):
        """A transcription."""
        try:
            length = int(self.headers.get("content-length") or 0)
            if length > LARGEST + AROUND:
                # What is not read would be taken for the next request.
                self.close_connection = True
                raise Refusal(413, "Maximum content size limit exceeded")
            body = self.rfile.read(length)
            if self.path != PATH:
                raise Refusal(404, f"Invalid URL (POST {self.path})")
            self.answer(200, transcription(self.headers, body, self.key))
        except Refusal as refusal:
            self.answer(refusal.status, failure(str(refusal)))

    def answer(self, status, content):
        """Sends JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def failure(message):
    """An error as OpenAI tells it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def main():
    """Listens until it is stopped."""
    address = os.environ.get("SPEECH_ADDRESS") or "127.0.0.1:8091"
    host, _, port = address.rpartition(":")
    ip = ipaddress.ip_address(host.strip("[]"))
    if not ip.is_loopback:
        raise SystemExit("SPEECH_ADDRESS must be on the loopback")
    ThreadingHTTPServer.address_family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    server = ThreadingHTTPServer((str(ip), int(port)), Endpoint)
    print(f"Speech-to-text at http://{host}:{server.server_port}{PATH}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
