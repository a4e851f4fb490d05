"""The HTTP server, as a client sees it: a real one, on a real socket."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from email.message import Message
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import Any

import cv2
import numpy as np
import pytest

from installed import catalogue, detector, model, package, picture, plain, png
from manifests.errors import (
    BundleError,
    InvalidInputError,
    ListenError,
    ModelLoadError,
    NotARootError,
    UnknownModelError,
    families,
)
from onnx_files import Tensor, identity_model, write
from runtime.catalogue import Catalogue
from runtime.dataplane import DataPlane, open_data_plane
from runtime.server.app import create_app
from runtime.server.errors import status_of
from runtime.server.limits import Limits
from runtime.server.serve import Running, serve

LIMITS = Limits(body_bytes=200_000, image_pixels=10_000, batch=3)
ROOT = Path(__file__).parent.parent


class Client:
    """Speaks plain HTTP to one server."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
        status, _, answer = self.exchange(method, path, body, **headers)
        return status, answer

    def exchange(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Message, Any]:
        connection = http.client.HTTPConnection(self.running.host, self.running.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            assert response.headers["content-type"] == "application/json"
            return response.status, response.headers, json.loads(response.read())
        finally:
            connection.close()

    def begin(self, sent: bytes, *, announced: int) -> socket.socket:
        """A detection whose body is not sent to its end."""
        connection = socket.create_connection((self.running.host, self.running.port), timeout=30)
        head = f"POST /infer/object_detection HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n"
        connection.sendall(head.encode() + sent)
        return connection

    def answer_to_half(self, *, announced: int) -> str:
        """The status that a request gets which is never sent whole; empty when there is none within a second."""
        with self.begin(b"{", announced=announced) as connection:
            connection.settimeout(1)
            try:
                return connection.recv(12).decode().removeprefix("HTTP/1.1 ")
            except TimeoutError:
                return ""

    def get(self, path: str) -> tuple[int, Any]:
        return self.send("GET", path)

    def post(self, path: str, document: object) -> tuple[int, Any]:
        return self.send("POST", path, json.dumps(document).encode())

    def detect(self, image: object, **options: object) -> tuple[int, Any]:
        return self.post("/infer/object_detection", {"model_id": "faces/1", "image": image, **options})


def base64_of(content: bytes, kind: str = "base64") -> dict[str, str]:
    return {"type": kind, "value": base64.b64encode(content).decode()}


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PICTURE = base64_of(png(picture()))


@contextmanager
def served(plane: DataPlane, limits: Limits = LIMITS) -> Iterator[Client]:
    ready: Queue[Running] = Queue()
    app = create_app(plane, limits=limits)
    thread = threading.Thread(target=serve, args=(app, "127.0.0.1", 0), kwargs={"on_ready": ready.put})
    thread.start()
    running = ready.get(timeout=30)
    try:
        yield Client(running)
    finally:
        running.stop()
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("models")
    faces = package(detector(folder / "onnxfp32", scores=(0.9, 0.0)))
    unsure = package(detector(folder / "unsure", scores=(0.35, 0.0)))
    write(folder / "echo", identity_model(Tensor("x", [2])))
    write(folder / "damaged", b"not a graph")
    return catalogue(
        [
            model("faces/1", [faces], aliases=["faces-640"]),
            model("unsure/1", [unsure]),
            model("echo/1", [package(folder / "echo")], task="embedding", architecture=None),
            model("damaged/1", [package(folder / "damaged")]),
            model("missing/1", [package(folder / "missing")]),
        ],
        generation=7,
    )


@pytest.fixture(scope="module")
def client(installed: Catalogue) -> Iterator[Client]:
    with served(open_data_plane(lambda: installed)) as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_loaded(request: pytest.FixtureRequest) -> None:
    if "client" in request.fixturenames:
        request.getfixturevalue("client").post("/model/clear", None)


class TestDetection:
    def test_a_picture_gives_an_object_in_the_shape_of_roboflow(self, client: Client) -> None:
        status, answer = client.detect(PICTURE, api_key="unused", disable_active_learning=False)
        assert status == 200
        assert isinstance(answer.pop("time"), float)
        assert len(answer.pop("inference_id")) == 36
        assert plain(answer) == {
            "image": {"width": 64, "height": 64},
            "predictions": [
                {
                    "x": 32.0, "y": 24.0, "width": 16.0, "height": 8.0,
                    "confidence": pytest.approx(0.9), "class": "face", "class_id": 0,
                }
            ],
        }  # fmt: skip

    def test_a_list_of_pictures_gives_a_list_even_of_one(self, client: Client) -> None:
        for count in (1, 2, 3):
            status, answers = client.detect([PICTURE] * count)
            assert (status, len(answers)) == (200, count)
        assert len({answer["inference_id"] for answer in answers}) == 3

    def test_an_empty_list_gives_an_empty_list(self, client: Client) -> None:
        assert client.detect([]) == (200, [])

    def test_an_alias_is_as_good_as_an_id(self, client: Client) -> None:
        status, answer = client.post("/infer/object_detection", {"model_id": "faces-640", "image": PICTURE})
        assert (status, len(answer["predictions"])) == (200, 1)

    def test_the_confidence_is_that_of_the_roboflow_server_until_the_client_says_otherwise(
        self, client: Client
    ) -> None:
        body = {"model_id": "unsure/1", "image": PICTURE}
        for options, count in (({}, 0), ({"confidence": None}, 0), ({"confidence": 0.3}, 1)):
            status, answer = client.post("/infer/object_detection", {**body, **options})
            assert (status, len(answer["predictions"])) == (200, count)

    def test_a_class_filter_keeps_the_classes_it_names(self, client: Client) -> None:
        assert client.detect(PICTURE, class_filter=["hand"])[1]["predictions"] == []
        assert len(client.detect(PICTURE, class_filter=["face"], class_agnostic_nms=True)[1]["predictions"]) == 1

    def test_a_data_address_is_base64_too(self, client: Client) -> None:
        value = "data:image/png;base64," + PICTURE["value"]
        assert client.detect({"type": "base64", "value": value})[0] == 200

    def test_base64_may_have_line_breaks(self, client: Client) -> None:
        value = base64.encodebytes(png(picture())).decode()
        assert "\n" in value
        for text in (value, value.replace("\n", "\r\n")):
            assert client.detect({"type": "base64", "value": text})[0] == 200

    def test_predictions_are_drawn_when_asked_for(self, client: Client) -> None:
        _, answer = client.detect(PICTURE, visualize_predictions=True)
        content = np.frombuffer(base64.b64decode(answer["visualization"]), np.uint8)
        drawn = cv2.imdecode(content, cv2.IMREAD_COLOR)
        assert drawn is not None
        assert drawn.shape == (64, 64, 3)
        assert "visualization" not in client.detect(PICTURE)[1]

    def test_many_clients_at_once_all_get_their_answer(self, client: Client) -> None:
        with ThreadPoolExecutor(16) as threads:
            statuses = [status for status, _ in threads.map(lambda _: client.detect(PICTURE), range(64))]
        assert statuses == [200] * 64


class TestRefusals:
    @pytest.mark.parametrize(
        ("image", "message"),
        [
            ({"type": "url", "value": "https://example.com/bus.jpg"}, "type 'url' is refused"),
            ({"type": "numpy", "value": "gASVAAAA"}, "type 'numpy' is refused"),
            ({"type": "base64", "value": "!!!"}, "not base64"),
            ({"type": "base64", "value": "ä"}, "not base64"),
            ({"type": "base64", "value": ""}, "not a picture"),
            (base64_of(b"a text"), "not a picture"),
            (base64_of(png(picture(101, 100))), "more than the 10000 allowed"),
            ([PICTURE] * 4, "4 pictures are more than the 3"),
            ([PICTURE, base64_of(b"a text")], "image 2: not a picture"),
            ({"value": "no type"}, "type"),
            (None, "image"),
        ],
    )
    def test_a_picture_that_cannot_be_used_is_a_bad_request(self, client: Client, image: object, message: str) -> None:
        status, answer = client.detect(image)
        assert status == 400
        assert message in answer["message"]
        assert answer["error"] == answer["message"]

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"model_id": 5}'])
    @pytest.mark.parametrize("path", ["/infer/object_detection", "/model/add", "/model/remove"])
    def test_a_body_that_is_no_request_is_a_bad_request(self, client: Client, path: str, body: bytes) -> None:
        status, answer = client.send("POST", path, body)
        assert status in {400, 413}
        assert answer["message"] == answer["error"]

    @pytest.mark.parametrize(
        "options",
        [{"confidence": 2}, {"confidence": "high"}, {"iou_threshold": -1}, {"max_detections": 0}, {"class_filter": 5}],
        ids=str,
    )
    def test_an_option_that_makes_no_sense_is_a_bad_request(self, client: Client, options: dict[str, object]) -> None:
        assert client.detect(PICTURE, **options)[0] == 400

    @pytest.mark.parametrize("path", ["/infer/object_detection", "/model/add", "/model/remove"])
    def test_an_unknown_model_is_not_found_and_never_unavailable(self, client: Client, path: str) -> None:
        status, answer = client.post(path, {"model_id": "faces/2", "image": PICTURE})
        assert status == 404
        assert answer["message"] == answer["error"] == "no model 'faces/2' is installed"
        assert "faces/1" in answer["hint"]

    def test_a_model_of_another_task_is_a_bad_request(self, client: Client) -> None:
        status, answer = client.post("/infer/object_detection", {"model_id": "echo/1", "image": PICTURE})
        assert (status, answer["message"]) == (400, "echo/1 does embedding, not object detection")

    def test_a_damaged_model_is_the_servers_fault(self, client: Client) -> None:
        status, answer = client.post("/model/add", {"model_id": "damaged/1"})
        assert status == 500
        assert answer["type"] == "ModelLoadError"

    def test_a_body_that_is_too_large_is_refused_by_its_announced_length(self, client: Client) -> None:
        announced = {"Content-Length": "200001"}
        status, answer = client.send("POST", "/infer/object_detection", b"", **announced)
        assert (status, answer["message"]) == (413, "the request's body is larger than 200000 bytes")

    def test_a_body_that_is_too_large_is_refused_while_it_comes(self, client: Client) -> None:
        connection = http.client.HTTPConnection(client.running.host, client.running.port, timeout=30)
        pieces = (b" " * 10_000 for _ in range(21))
        connection.request("POST", "/infer/object_detection", pieces, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/no/such", 404), ("GET", "/model/add", 405)])
    def test_what_there_is_not_is_answered_in_json(self, client: Client, method: str, path: str, status: int) -> None:
        seen, answer = client.send(method, path)
        assert seen == status
        assert answer["message"] == answer["error"]

    def test_a_full_queue_tells_the_client_to_come_back(self, installed: Catalogue) -> None:
        asked, may_go_on = threading.Semaphore(0), threading.Event()

        def slow_catalogue() -> Catalogue:
            asked.release()
            may_go_on.wait(30)
            return installed

        plane = open_data_plane(slow_catalogue)
        with served(plane, Limits(concurrent=1, waiting=1)) as client, ThreadPoolExecutor(8) as threads:
            first = threads.submit(client.detect, PICTURE)
            asked.acquire(timeout=30)
            others = [threads.submit(client.detect, PICTURE) for _ in range(5)]
            refused = list(islice(as_completed(others, timeout=30), 4))
            may_go_on.set()
            statuses = sorted(one.result(30)[0] for one in [first, *others])
        assert {one.result()[0] for one in refused} == {503}
        assert statuses == [200, 200, 503, 503, 503, 503]

    def test_the_pixels_of_a_request_are_summed_before_any_is_decoded(
        self, installed: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with served(open_data_plane(lambda: installed), Limits(request_pixels=3 * 64 * 64)) as client:
            assert client.detect([PICTURE] * 3)[0] == 200
            monkeypatch.setattr(cv2, "imdecode", pytest.fail)
            status, answer = client.detect([PICTURE] * 4)
        assert (status, answer["message"]) == (413, "16384 pixels are more than the 12288 of one request")

    def test_of_a_list_only_one_picture_is_held_decoded(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded: list[weakref.ref[np.ndarray]] = []
        alive: list[int] = []

        def imdecode(content: np.ndarray, flags: int) -> np.ndarray:
            alive.append(sum(reference() is not None for reference in decoded))
            image = genuine(content, flags)
            assert image is not None
            decoded.append(weakref.ref(image))
            return image

        genuine = cv2.imdecode
        monkeypatch.setattr(cv2, "imdecode", imdecode)
        assert client.detect([PICTURE] * 3)[0] == 200
        assert alive == [0, 0, 0]

    def test_bodies_that_would_fill_the_memory_are_refused_before_they_are_read(self, installed: Catalogue) -> None:
        limits = Limits(body_bytes=60_000, held_bytes=100_000)
        with served(open_data_plane(lambda: installed), limits) as client:
            with client.begin(b"{", announced=60_000):
                wait_until(lambda: client.answer_to_half(announced=60_000) == "503")
                assert client.detect(PICTURE)[0] == 200
            wait_until(lambda: client.send("POST", "/infer/object_detection", b" " * 60_000)[0] == 400)

    def test_a_body_that_does_not_arrive_is_given_up(self, installed: Catalogue) -> None:
        with served(open_data_plane(lambda: installed), Limits(body_seconds=0.2)) as client:
            assert client.answer_to_half(announced=1000) == "408"

    def test_a_client_that_goes_away_is_no_error(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        client.begin(b"{", announced=1000).close()
        time.sleep(0.3)
        assert client.get("/healthz")[0] == 200
        assert not caplog.records

    def test_a_model_of_another_task_is_refused_without_loading_it(self, client: Client) -> None:
        client.post("/infer/object_detection", {"model_id": "echo/1", "image": PICTURE})
        assert client.get("/model/registry")[1] == {"models": []}

    def test_a_wrong_method_is_told_the_right_one(self, client: Client) -> None:
        status, headers, _ = client.exchange("GET", "/model/add")
        assert (status, headers["allow"]) == (405, "POST")

    def test_an_address_with_a_slash_too_many_is_not_found_and_not_redirected(self, client: Client) -> None:
        status, answer = client.get("/health/")
        assert (status, answer["message"]) == (404, "Not Found")

    def test_an_answer_names_no_file_of_this_machine_and_the_log_does(
        self, installed: Catalogue, caplog: pytest.LogCaptureFixture
    ) -> None:
        def nothing() -> Catalogue:
            raise NotARootError("nothing is installed in /nowhere", hint="`bundle install BUNDLE` first")

        with served(open_data_plane(lambda: installed)) as client:
            answers = [client.post("/model/add", {"model_id": name})[1] for name in ("damaged/1", "missing/1")]
        with served(open_data_plane(nothing)) as client:
            answers += [client.detect(PICTURE)[1], client.get("/health")[1]]
        assert [one["message"] for one in answers[:2]] == [ModelLoadError.meaning] * 2
        assert answers[1]["hint"] == "install the bundle again"
        assert answers[2]["message"] == answers[3]["message"] == NotARootError.meaning
        assert not [text for text in map(str, answers) if "/tmp" in text or "nowhere" in text]
        assert "/missing/weights.onnx" in caplog.text
        assert "nothing is installed in /nowhere" in caplog.text

    def test_every_error_of_the_tree_has_a_status(self) -> None:
        assert status_of(UnknownModelError("m")) == 404
        assert status_of(InvalidInputError("m")) == 400
        assert status_of(NotARootError("m")) == 503
        for kind in families():
            error = kind.__new__(kind)
            assert isinstance(error, BundleError)
            assert 400 <= status_of(error) < 600


class TestRegistry:
    def test_clients_find_a_loaded_model_under_every_name_it_has(self, client: Client) -> None:
        assert client.get("/model/registry") == (200, {"models": []})
        status, answer = client.post("/model/add", {"model_id": "faces-640", "api_key": None})
        assert status == 200
        assert [entry["model_id"] for entry in answer["models"]] == ["faces/1", "faces-640"]
        assert answer["models"][0] == {
            "model_id": "faces/1", "task_type": "object-detection", "batch_size": 1, "input_height": 64,
            "input_width": 64, "package_id": "onnxfp32", "num_inferences": 0, "avg_inference_time": None,
        }  # fmt: skip

    def test_inferences_are_counted(self, client: Client) -> None:
        client.detect([PICTURE] * 3)
        entry = client.get("/model/registry")[1]["models"][0]
        assert entry["num_inferences"] == 3
        assert entry["avg_inference_time"] > 0

    def test_models_are_removed_by_any_name_one_by_one_or_all_at_once(self, client: Client) -> None:
        for name in ("faces/1", "echo/1"):
            client.post("/model/add", {"model_id": name})
        answer = client.post("/model/remove", {"model_id": "faces-640"})[1]
        assert [entry["model_id"] for entry in answer["models"]] == ["echo/1"]
        assert client.send("POST", "/model/clear") == (200, {"models": []})


class TestHealth:
    def test_it_says_what_is_served_and_whether_anything_could_leave(self, client: Client) -> None:
        client.post("/model/add", {"model_id": "faces/1"})
        status, health = client.get("/health")
        assert status == 200
        assert health["status"] == "ready"
        assert (health["generation"], health["installed"], health["loaded"]) == (7, 5, ["faces/1"])
        assert health["guard"] == {"enabled": False, "refused": 0, "targets": []}
        assert isinstance(health["kernel_isolated"], bool)
        assert "CPUExecutionProvider" in health["onnxruntime"]["providers"]

    def test_probes_and_clients_get_what_they_ask_for(self, client: Client) -> None:
        assert client.get("/healthz") == (200, {"status": "healthy"})
        assert client.get("/readiness") == (200, {"status": "ready"})
        status, information = client.get("/info")
        assert status == 200
        assert information.keys() == {"name", "version", "uuid"}
        assert client.get("/info")[1]["uuid"] == information["uuid"]

    def test_without_anything_installed_it_lives_and_is_not_ready(self) -> None:
        def nothing() -> Catalogue:
            raise NotARootError("nothing is installed in /nowhere")

        with served(open_data_plane(nothing)) as client:
            assert client.get("/healthz")[0] == 200
            assert client.get("/readiness")[0] == 503
            status, health = client.get("/health")
            assert (status, health["status"], health["generation"]) == (200, "not ready", None)
            assert client.detect(PICTURE)[0] == 503


SERVER = """
import sys
from pathlib import Path
from runtime import guard
from runtime.dataplane import open_data_plane
from runtime.server.app import create_app
from runtime.server.serve import serve
from installed import catalogue, detector, model, package

guard.enable()
faces = package(detector(Path(sys.argv[1])))
plane = open_data_plane(lambda: catalogue([model("faces/1", [faces])]))
serve(create_app(plane), "127.0.0.1", 0, on_ready=lambda running: print(running.port, flush=True))
print("stopped", flush=True)
"""


class TestServing:
    @pytest.mark.parametrize(
        "sent", [b"POST /infer", b"POST /infer/object_detection HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]
    )
    def test_a_request_that_never_ends_does_not_keep_it_running(self, tmp_path: Path, sent: bytes) -> None:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path / "onnxfp32")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT / "tests",
        )  # fmt: skip
        assert server.stdout is not None
        with server, socket.create_connection(("127.0.0.1", int(server.stdout.readline()))) as connection:
            connection.sendall(sent)
            time.sleep(0.3)
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert server.communicate(timeout=20) == ("stopped\n", "")
            assert time.monotonic() - began < 5

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_gracefully_and_nothing_ever_left(self, tmp_path: Path, number: signal.Signals) -> None:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path / "onnxfp32")],
            stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests",
        )  # fmt: skip
        assert server.stdout is not None
        with server, server.stdout:
            client = Client(Running("127.0.0.1", int(server.stdout.readline()), stop=lambda: None))
            assert client.detect(PICTURE)[0] == 200
            guarded = client.get("/health")[1]["guard"]
            assert guarded == {"enabled": True, "refused": 0, "targets": []}
            os.kill(server.pid, number)
            assert server.stdout.readline() == "stopped\n"
            assert server.wait(30) == 0

    def test_an_address_that_is_taken_is_an_error_at_once(self, client: Client) -> None:
        with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1"):
            serve(create_app(open_data_plane(lambda: catalogue([]))), "127.0.0.1", client.running.port, on_ready=print)

    def test_an_ipv6_address_is_written_in_brackets(self) -> None:
        assert Running("::1", 9001, stop=lambda: None).url == "http://[::1]:9001"
        assert Running("127.0.0.1", 9001, stop=lambda: None).url == "http://127.0.0.1:9001"
