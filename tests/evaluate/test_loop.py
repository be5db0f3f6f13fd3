import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnets.errors import DataError, ResnetsError, ShapeError
from resnets.evaluate.loop import evaluate_model

CLASSES = ("a", "b", "c")


class Net(nn.Module):
    """Notes how it is run; answers a linear map of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)
        self.fc = nn.Linear(4, 3)
        self.seen: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(self.norm(self.drop(x)))
        self.seen.append((self.training, torch.is_grad_enabled(), y.dtype))
        return y


def batches(sizes=(4, 4, 2)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), 4, generator=generator)
    y = torch.randint(0, 3, (sum(sizes),), generator=generator)
    places = torch.arange(100, 100 + sum(sizes))
    return list(zip(x.split(sizes), y.split(sizes), places.split(sizes), strict=True))


def test_collects_every_image_in_order():
    net, told = Net(), []
    result = evaluate_model(net, batches(), CLASSES, on_batch=told.append)
    assert told == [4, 4, 2]
    assert result.indices.tolist() == list(range(100, 110))
    assert result.labels.tolist() == torch.cat([y for _, y, _ in batches()]).tolist()
    assert result.logits.dtype == np.float32
    net.eval()
    whole = net(torch.cat([x for x, _, _ in batches()]))
    np.testing.assert_allclose(result.logits, whole.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert result.classes == CLASSES


def test_batch_size_changes_nothing():
    net = Net()
    ones, tens = (evaluate_model(net, batches(sizes), CLASSES) for sizes in ((1,) * 10, (10,)))
    assert ones.loss == pytest.approx(tens.loss, rel=1e-6)
    assert (ones.predictions == tens.predictions).all()


def test_runs_in_eval_mode_and_puts_each_mode_back():
    net = Net().train()
    net.norm.eval()  # a frozen batch norm in a network that trains
    before = net.norm.running_mean.clone()
    evaluate_model(net, batches(), CLASSES)
    assert all(not training and not grad for training, grad, _ in net.seen)
    assert (net.training, net.drop.training, net.norm.training) == (True, True, False)
    assert torch.equal(net.norm.running_mean, before)


def test_puts_the_mode_back_after_an_error_too():
    net = Net().train()
    net.fc.weight.data.fill_(float("nan"))
    with pytest.raises(ResnetsError, match="NaN ones for 4 of 4 images in a batch, first for image 100"):
        evaluate_model(net, batches(), CLASSES)
    assert net.training
    assert net.drop.training


def test_infinite_logits_are_an_error():
    net = Net()
    net.fc.bias.data[1] = float("inf")
    with pytest.raises(ResnetsError, match="infinite"):
        evaluate_model(net, batches(), CLASSES)


def test_amp_runs_in_the_given_type_and_answers_float32():
    net = Net()
    result = evaluate_model(net, batches(), CLASSES, amp=torch.bfloat16)
    assert {dtype for _, _, dtype in net.seen} == {torch.bfloat16}
    assert result.logits.dtype == np.float32
    assert not torch.is_autocast_enabled("cpu")


def test_takes_indices_as_an_array_and_keeps_no_view_of_reused_buffers():
    x, y, places = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), np.zeros(2, np.int64)

    def reusing():
        for step in range(3):
            y.fill_(step)
            places[:] = step
            yield x, y, places

    result = evaluate_model(Net(), reusing(), CLASSES)
    assert result.labels.tolist() == result.indices.tolist() == [0, 0, 1, 1, 2, 2]


def test_refuses_the_wrong_number_of_classes_and_no_images():
    with pytest.raises(ShapeError, match=r"got \(4, 3\); check num_classes against the 2 classes"):
        evaluate_model(Net(), batches(), ("a", "b"))
    with pytest.raises(DataError, match="at least one image"):
        evaluate_model(Net(), [], CLASSES)
