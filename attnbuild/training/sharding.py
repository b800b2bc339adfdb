"""Training a model whose parameters are spread over the ranks: ``trainer=fsdp``.

Each rank keeps a slice of every parameter, of its gradient and of its optimiser state (ZeRO stage 3, Rajbhandari et
al. 2020; fully sharded data parallelism, Zhao et al. 2023), as PyTorch's ``fully_shard`` does it: a layer's
parameters are gathered before the layer runs and let go after it, and its gradients are reduced to the slices.
What is trained is what ``ddp`` trains, and checkpoints are the same files: whole, written by the first rank.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from attnbuild.errors import ConfigError
from attnbuild.training.task import Loss

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = [
    "PRECISIONS",
    "FullySharded",
    "ShardedModel",
    "layers_of",
    "local",
    "saved",
    "share_buffers",
    "sliced",
    "whole",
]

#: What Lightning's strategy computes in.
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


# Tensors


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which each rank holds a slice; any other as it is. All ranks come here together."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def saved(tensor: Tensor) -> Tensor:
    """What the first rank saves of a tensor: the whole. Other ranks, which come here too, get nothing to keep."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    gathered = whole(tensor)
    return gathered.cpu() if torch.distributed.get_rank() == 0 else gathered.new_empty(0)


def local(tensor: Tensor) -> Tensor:
    """This rank's slice, in the same memory; any other tensor as it is."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def sliced(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, known to all ranks, spread as another one is."""
    if not isinstance(like, DTensor):
        return tensor
    # Nothing is sent: each rank cuts its own slice out, and copies it, so that the whole need not stay.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).clone()


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Give all ranks the buffers of the first, which are those that are saved; one message for each type of number."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for buffer in model.buffers():
        by_type.setdefault(buffer.dtype, []).append(buffer)
    for buffers in by_type.values():
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        torch.distributed.broadcast(flat, src=0)
        for buffer, values in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))


# The model


class ShardedModel:
    """A model that is spread over the ranks for its training.

    It is evaluated whole, by a twin that borrows gathered parameters for the time: generation calls ``start`` and
    ``step``, as often as the outputs of a rank are long, on as many batches as it has, maybe none. Were layers
    gathered while it runs (``register_fsdp_forward_method``), each call would be a meeting of all ranks, and the
    first to come alone would wait forever. Nor may the sharded layers run gathered: each run enters the order by which
    the next backward gathers ahead, so ranks with other batches would gather other layers.

    Args:
        model: whole, and the same on all ranks; it is sharded in place.
        mesh: the ranks.

    Attributes:
        model: the sharded one.
        twin: whole from ``gather`` to ``release``, in evaluation mode; empty otherwise.

    Raises:
        ConfigError: a parameter has no dimension to cut.
    """

    def __init__(self, model: nn.Module, mesh: DeviceMesh) -> None:
        from torch.distributed.fsdp import fully_shard

        for name, parameter in model.named_parameters():
            if parameter.ndim == 0:
                message = f"fsdp cuts parameters into slices, and {name} is a single number: set trainer.strategy=ddp"
                raise ConfigError(message, "trainer.strategy")
        self.model = model
        self.twin = copy.deepcopy(model)
        self.release()
        for layer in layers_of(model):
            fully_shard(layer, mesh=mesh)
        # All else, tied embeddings among it, is one group, gathered for as long as a batch is computed.
        self._step = _Step(model)
        fully_shard(self._step, mesh=mesh)

    def loss(self, loss: Callable[[nn.Module, Any], Loss], batch: Any) -> Loss:
        """The loss of a batch, for training."""
        return Loss(*self._step(loss, batch))

    @torch.inference_mode(False)
    @torch.no_grad()
    def gather(self) -> nn.Module:
        """The model with whole parameters, in evaluation mode; all ranks call this, and ``release`` after the use."""
        for own, parameter in zip(self.twin.parameters(), self.model.parameters(), strict=True):
            own.data = whole(parameter)
        for borrowed, buffer in zip(self.twin.buffers(), self.model.buffers(), strict=True):
            borrowed.data = buffer
        for part in self.twin.modules():
            if isinstance(part, nn.RNNBase):
                part.flatten_parameters()
        return self.twin.eval()

    @torch.inference_mode(False)
    def release(self) -> None:
        """Let the whole parameters go."""
        for own in self.twin.parameters():
            own.data = own.data.new_empty(0)


class _Step(nn.Module):
    """A training batch from its start to its loss, whatever the task calls of the model in between.

    Like the distributed wrapper of ``ddp``, it is what runs forward; the root of all sharding.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, loss: Callable[[nn.Module, Any], Loss], batch: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The fields of the loss: a tuple, for hooks on gradients are only set on tensors that are found."""
        found = loss(self.model, batch)
        return found.total, found.weight, found.correct, found.unreported


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers that are gathered one after the other: the members of the outermost lists of blocks.

    Cells of a recurrent decoder are none: they run at every token, and would be gathered as often.
    """
    found: list[nn.Module] = []
    for part in model.children():
        if isinstance(part, nn.ModuleList) and all(any(True for _ in layer.children()) for layer in part):
            found += part
        else:
            found += layers_of(part)
    return found


# The strategy


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for sharded models, with the checkpoints of every other one.

    What is saved is gathered on the first rank, and numbered as one process numbers it; what is read is whole, and
    each rank keeps its slices. So a run goes on with any number of ranks.

    Args:
        backend: of the process group: gloo or nccl.
    """

    def __init__(self, backend: str) -> None:
        super().__init__(process_group_backend=backend, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        # It warns of changes in place to what a layer gives; there are none, and weights are views now and then.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        super().setup_environment()

    @property
    def ranks(self) -> DeviceMesh:
        """All ranks, in one dimension."""
        return self.device_mesh["data_parallel"]

    # Saving: all ranks come here, for each tensor is gathered from all of them

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict(keep_vars=True)
        once = {id(tensor): tensor for tensor in state.values()}  # tied ones have several names
        gathered = {number: saved(tensor) for number, tensor in once.items()}
        return {name: gathered[id(tensor)] for name, tensor in state.items()}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        state = optimizer.state_dict()
        return {**state, "state": _each(state["state"], lambda _number, _name, value: _saved(value))}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    # Reading: all ranks read the file

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own, given = self.lightning_module.state_dict(), checkpoint["state_dict"]
        self.lightning_module.load_state_dict(
            {name: sliced(value, own[name]) if name in own else value for name, value in given.items()}, strict=strict
        )

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = _numbered(optimizer.param_groups)

            def own(number: Any, name: str, value: Any, parameters: list[nn.Parameter] = parameters) -> Any:
                like = parameters[number]
                fits = isinstance(value, Tensor) and value.shape == like.shape
                return sliced(value, like) if fits else value

            optimizer.load_state_dict({**state, "state": _each(state["state"], own)})


def _saved(value: Any) -> Any:
    return saved(value) if isinstance(value, Tensor) else value


def _numbered(groups: Iterable[dict[str, Any]]) -> list[nn.Parameter]:
    """Parameters in the order by which an optimiser numbers them."""
    return [parameter for group in groups for parameter in group["params"]]


def _each(state: dict[Any, dict[str, Any]], change: Callable[[Any, str, Any], Any]) -> dict[Any, dict[str, Any]]:
    """An optimiser's state with each value changed, given the parameter's number and the value's name."""
    return {
        number: {name: change(number, name, value) for name, value in values.items()}
        for number, values in state.items()
    }
