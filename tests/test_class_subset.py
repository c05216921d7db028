"""A model of ImageNet's 1,000 classes on data of some of them."""

import pytest
import torch
from torch import nn

import tta
from tta.class_subset import ClassSubset, fit_classes
from tta.data.arrays import ArrayImages
from tta.data.imagenet import IMAGENET_R, descriptions
from tta.errors import TTAError
from tta.models import SourceModel


class Network(nn.Module):
    """A small classifier whose logits are, or are not, the output of its last linear layer."""

    def __init__(self, classes, last="linear"):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Conv2d(8, classes, 1) if last == "convolution" else nn.Linear(8, classes)
        if last == "weight norm":
            self.fc = nn.utils.parametrizations.weight_norm(self.fc)
        self.last = last

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        if self.last == "convolution":
            return self.fc(x[:, :, None, None])[:, :, 0, 0]
        return 3 * self.fc(x) if self.last == "scaled" else self.fc(x)


def source(classes=1000, last="linear"):
    torch.manual_seed(0)
    return SourceModel(Network(classes, last), name="small", shape=(3, 16, 16))


@pytest.fixture
def data():
    x = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) * 17 % 200
    made = ArrayImages("imagenet-r", x.numpy(), y.numpy(), classes=[descriptions()[i] for i in IMAGENET_R])
    made.class_indices = IMAGENET_R
    return made


@pytest.mark.parametrize("last", ["linear", "scaled", "convolution", "weight norm"])
def test_logits_are_the_columns_of_the_classes(data, last):
    model = source(last=last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = fit_classes(model, data)
    x = data.images(slice(None)).float() / 255
    assert (fitted.num_classes, fitted.classes) == (200, data.classes)
    torch.testing.assert_close(fitted(x), model(x)[:, list(IMAGENET_R)])
    assert model.num_classes == 1000
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(fitted.net, ClassSubset) == (last != "linear")
    assert fitted.preprocessing == model.preprocessing


def test_labels_of_the_subset_are_found_again(data):
    model = source()
    with torch.no_grad():  # a network that sees a class of the subset, and one outside that would win
        model.net.fc.bias.fill_(0)
        model.net.fc.bias[IMAGENET_R[17]], model.net.fc.bias[0] = 1e3, 1e4
    assert 0 not in IMAGENET_R
    x = data.images(slice(None)).float() / 255
    assert model(x).argmax(1).tolist() == [0] * 12
    assert fit_classes(model, data)(x).argmax(1).tolist() == [17] * 12


@pytest.mark.parametrize("method", ["tent", "cotta", "t3a", "lame", "adacontrast", "neo", "shot"])
def test_adapters_run_on_the_subset(data, method):
    adapter = tta.wrap(fit_classes(source(), data), method)
    logits = adapter(data.images(slice(None)).float() / 255)
    assert logits.shape == (12, 200)
    assert logits.isfinite().all()


def test_a_model_of_as_many_classes_is_taken_as_it_is(data):
    model = source(200)
    assert fit_classes(model, data) is model


def test_models_that_do_not_belong_to_the_data_are_refused(data):
    with pytest.raises(TTAError, match="small predicts 10 classes but imagenet-r has 200"):
        fit_classes(source(10), data)
    data.class_indices = None
    with pytest.raises(TTAError, match="small predicts 1000 classes"):
        fit_classes(source(), data)
