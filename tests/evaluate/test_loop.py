from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnets.errors import DataError, ResnetsError, ShapeError
from resnets.evaluate.loop import Outputs, evaluate_model

CLASSES = ("a", "b", "c")
Batch = tuple[Tensor, Tensor, Tensor]


class Net(nn.Module):
    """A linear map of its input; records the modes in which it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)
        self.fc = nn.Linear(4, 3)
        self.seen: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.norm(self.drop(x)))
        self.seen.append((self.training, torch.is_grad_enabled(), y.dtype))
        return y


def batches(sizes: Sequence[int] = (4, 4, 2)) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), 4, generator=generator)
    y = torch.randint(0, 3, (sum(sizes),), generator=generator)
    indices = torch.arange(100, 100 + sum(sizes))
    return list(zip(*(torch.split(tensor, list(sizes)) for tensor in (x, y, indices)), strict=True))


def test_collects_every_image_in_order() -> None:
    net, counts = Net(), list[int]()
    result = evaluate_model(net, batches(), CLASSES, on_batch=counts.append)
    assert counts == [4, 4, 2]
    assert result.indices.tolist() == list(range(100, 110))
    assert result.labels.tolist() == torch.cat([y for _, y, _ in batches()]).tolist()
    assert result.logits.dtype == np.float32
    net.eval()
    whole = net(torch.cat([x for x, _, _ in batches()]))
    np.testing.assert_allclose(result.logits, whole.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert result.classes == CLASSES


def test_batch_size_changes_nothing() -> None:
    net = Net()
    ones, tens = (evaluate_model(net, batches(sizes), CLASSES) for sizes in ((1,) * 10, (10,)))
    assert ones.loss == pytest.approx(tens.loss, rel=1e-6)
    assert (ones.predictions == tens.predictions).all()


def test_outputs_of_several_processes_are_sorted_by_index() -> None:
    net = Net()
    whole = evaluate_model(net, batches(), CLASSES)
    other: list[Outputs] = []
    evaluate_model(net, batches()[1:], CLASSES, gather=lambda outputs: other.append(outputs) or [outputs])  # type: ignore[func-returns-value]
    merged = evaluate_model(net, batches()[:1], CLASSES, gather=lambda outputs: [*other, outputs])
    np.testing.assert_array_equal(merged.indices, whole.indices)
    np.testing.assert_array_equal(merged.labels, whole.labels)
    np.testing.assert_allclose(merged.logits, whole.logits, rtol=1e-6)
    idle = evaluate_model(net, [], CLASSES, gather=lambda outputs: [outputs, *other])  # a process without batches
    assert idle.indices.tolist() == list(range(104, 110))


def test_runs_in_evaluation_mode_and_restores_each_mode() -> None:
    net = Net().train()
    net.norm.eval()  # a frozen batch norm in a network that trains
    assert net.norm.running_mean is not None
    before = net.norm.running_mean.clone()
    evaluate_model(net, batches(), CLASSES)
    assert all(not training and not grad for training, grad, _ in net.seen)
    assert (net.training, net.drop.training, net.norm.training) == (True, True, False)
    assert torch.equal(net.norm.running_mean, before)


def test_restores_the_mode_after_an_error() -> None:
    net = Net().train()
    net.fc.weight.data.fill_(float("nan"))
    with pytest.raises(ResnetsError, match=r"NaN .* 4 of 4 images .* image 100"):
        evaluate_model(net, batches(), CLASSES)
    assert net.training
    assert net.drop.training


def test_infinite_logits_are_an_error() -> None:
    net = Net()
    net.fc.bias.data[1] = float("inf")
    with pytest.raises(ResnetsError, match="infinite"):
        evaluate_model(net, batches(), CLASSES)


def test_amp_computes_in_its_dtype_and_logits_are_float32() -> None:
    net = Net()
    result = evaluate_model(net, batches(), CLASSES, amp=torch.bfloat16)
    assert {dtype for _, _, dtype in net.seen} == {torch.bfloat16}
    assert result.logits.dtype == np.float32
    assert not torch.is_autocast_enabled("cpu")


def test_accepts_indices_as_an_array_and_copies_reused_buffers() -> None:
    x, y, indices = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), np.zeros(2, np.int64)

    def reusing() -> Iterator[tuple[Tensor, Tensor, np.ndarray[tuple[int], np.dtype[np.int64]]]]:
        for step in range(3):
            y.fill_(step)
            indices[:] = step
            yield x, y, indices

    result = evaluate_model(Net(), reusing(), CLASSES)
    assert result.labels.tolist() == result.indices.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_wrong_number_of_classes_and_no_images_are_rejected() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 3\).*num_classes.* 2 classes"):
        evaluate_model(Net(), batches(), ("a", "b"))
    with pytest.raises(DataError, match="at least one image"):
        evaluate_model(Net(), [], CLASSES)
