"""The server of docs/serving.md answers four clients at once, each as the classifier answers alone."""

import http.client
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.processes import ROOT

import cnncore
from cnncore.classify import Classifier

CLIENTS, REQUESTS = 4, 6


@pytest.fixture
def page():
    """The names that the page's code defines."""
    (source,) = re.findall(
        r"^```python\n(import json\n.*?)^```",
        (ROOT / "docs" / "serving.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    names = {}
    exec(compile(source, "serving.md", "exec"), names)
    return names


@pytest.fixture
def model(tmp_path):
    net = cnncore.models.small_inception(seed=0)
    net.metadata = {"classes": [f"class {k}" for k in range(10)], "mean": [0.5], "std": [0.5]}
    net.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def post(connection, content):
    connection.request("POST", "/", content)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_four_clients_get_what_the_classifier_says(page, model, rng):
    images = rng.integers(0, 256, (CLIENTS * REQUESTS, 28, 28), np.uint8)
    files = [cnncore.images.write_png(None, image) for image in images]
    alone = Classifier.from_file(model)
    expected = [dict(alone.classify(content).top(3)) for content in files]
    before = cnncore.get_num_threads()
    server = page["server"](model, port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def client(number):
        connection = http.client.HTTPConnection(*server.server_address, timeout=60)
        mine = range(number, len(files), CLIENTS)
        answers = {i: post(connection, files[i]) for i in mine}
        wrong = post(connection, b"no image")
        connection.close()
        return answers, wrong

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            found = list(pool.map(client, range(CLIENTS)))
        empty = http.client.HTTPConnection(*server.server_address, timeout=60)
        assert post(empty, b"")[0] == 413
        empty.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        cnncore.set_num_threads(before)
    answers = {i: answer for each, _ in found for i, answer in each.items()}
    assert [answers[i] for i in range(len(files))] == [(200, {"classes": e}) for e in expected]
    assert all(status == 400 and "not a readable image" in content["error"] for _, (status, content) in found)


def test_a_classifier_is_shared_by_threads(model, rng):
    """Sizes differ, so that threads make plans at the same time; probabilities are those of one thread, bit for bit."""
    images = [rng.integers(0, 256, (20 + i % 5, 24), np.uint8) for i in range(10)]
    classifier = Classifier.from_file(model)
    alone = Classifier.from_file(model)
    expected = [alone.classify(image).probabilities for image in images] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: classifier.classify(image).probabilities, images * 4))
    np.testing.assert_array_equal(found, expected)
