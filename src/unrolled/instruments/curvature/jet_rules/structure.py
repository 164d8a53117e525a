"""Operators that move elements about: linear in what they move, so every coefficient goes the same way."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.instruments.curvature.jet_rules.tensor import (
    Jet,
    JetUnsupported,
    aligned,
    bound,
    constant,
    is_live,
    operators,
    stack_of,
)

aten = torch.ops.aten


def view(op: Any, args: Any, kwargs: Any) -> Any:
    """Any operator declared to return its first argument's memory, or perhaps a copy of it (`reshape`, `to`)."""
    if op is aten.view.dtype:
        raise JetUnsupported(op, "it reads the bits of one number format as another")
    x: Jet = args[0]
    stack = x.stack
    others = [constant(a) for a in args[1:]]
    out = op(stack[0], *others, **kwargs)
    memory = stack.untyped_storage().data_ptr()

    def lift(image: Tensor) -> Any:
        if not (image.is_floating_point() or image.is_complex()):
            return image
        if image.dtype == stack.dtype and image.untyped_storage().data_ptr() == memory:
            size, stride = (stack.shape[0], *image.shape), (stack.stride(0), *image.stride())
            return Jet(stack.as_strided(size, stride, image.storage_offset()), x.memory)
        if op._schema.name == "aten::to":
            return Jet(stack.to(image.device, image.dtype))
        return Jet(_rows([image, *(op(s, *others, **kwargs) for s in stack[1:])]))

    if isinstance(out, Tensor):
        return lift(out)
    return type(out)(lift(image) for image in out)


def _reshape(op: Any, args: Any, kwargs: Any) -> Any:
    stack = args[0].stack
    image = op(stack[0], *args[1:], **kwargs)
    if image.untyped_storage().data_ptr() == stack.untyped_storage().data_ptr() or not image.is_contiguous():
        return view(op, args, kwargs)
    return Jet(stack.reshape(stack.shape[0], *image.shape))


def _contiguous(op: Any, args: Any, kwargs: Any) -> Any:
    image = op(args[0].stack[0], **kwargs)
    return Jet(args[0].stack.contiguous()) if image.is_contiguous() else view(op, args, kwargs)


def _on_stack(op: Any, args: Any, kwargs: Any) -> Any:
    """Operators that leave leading axes alone."""
    return Jet(op(args[0].stack, *args[1:], **kwargs))


def _clone(op: Any, args: Any, kwargs: Any) -> Any:
    stack = args[0].stack
    if kwargs.get("memory_format") in (None, torch.preserve_format, torch.contiguous_format):
        return Jet(stack.clone(**kwargs))
    return Jet(_rows([s.clone(**kwargs) for s in stack]))


def _to_copy(op: Any, args: Any, kwargs: Any) -> Any:
    dtype = kwargs.get("dtype")
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        return op(constant(args[0]), **kwargs)
    return Jet(_rows([op(s, **kwargs) for s in args[0].stack]))


def _rows(rows: list[Tensor]) -> Tensor:
    """Stack coefficients, in memory laid out as each of them is."""
    first = rows[0]
    if first.is_contiguous():
        return torch.stack(rows)
    order = sorted(range(first.ndim), key=lambda i: -first.stride(i))
    back = sorted(range(first.ndim), key=order.__getitem__)
    return torch.stack([r.permute(order) for r in rows]).permute(0, *(i + 1 for i in back))


def linear_in(*positions: int) -> Any:
    """The rule of an operator that is linear in the arguments at these positions taken together."""

    def rule(op: Any, args: Any, kwargs: Any) -> Any:
        args = list(args)
        places = [p for p in positions if p < len(args)]
        if any(is_live(a) for i, a in enumerate(args) if i not in places) or any(
            map(is_live, kwargs.values())
        ):
            raise JetUnsupported(
                op, "an argument it is not linear in (a weight, a size) depends on the parameters"
            )
        given = {p: args[p] for p in places}
        rows: list[Any] = []
        for n in range(max(x.terms for x in given.values() if isinstance(x, Jet))):
            for p in places:
                args[p] = _coefficient(given[p], n)
            rows.append(op(*args, **kwargs))
        if isinstance(rows[0], Tensor):
            return Jet(_rows(rows))
        return type(rows[0])(Jet(_rows([r[i] for r in rows])) for i in range(len(rows[0])))

    return rule


def _coefficient(x: Any, n: int) -> Any:
    if isinstance(x, Jet):
        return x.stack[n] if n < x.terms else torch.zeros_like(x.stack[0])
    if n == 0:
        return x
    return torch.zeros_like(x) if isinstance(x, Tensor) else 0


def _cat(op: Any, args: Any, kwargs: Any) -> Any:
    parts, dim = bound(op, args, kwargs)
    parts = [p for p in parts if p.ndim != 1 or p.numel() != 0] or parts  # torch skips legacy empty tensors
    dim = dim % parts[0].ndim
    stacks = [stack_of(p) for p in parts]
    terms = max(s.shape[0] for s in stacks)
    if all(s.shape[0] == terms for s in stacks):
        return Jet(torch.cat(stacks, dim + 1))
    padded = [F.pad(s, [0, 0] * (s.ndim - 1) + [0, terms - s.shape[0]]) for s in stacks]
    return Jet(torch.cat(padded, dim + 1))


def _stack(op: Any, args: Any, kwargs: Any) -> Any:
    parts, dim = bound(op, args, kwargs)
    dim = dim % (parts[0].ndim + 1)
    return _cat(aten.cat.default, [[p.unsqueeze(dim) for p in parts], dim], {})


def _embedding(op: Any, args: Any, kwargs: Any) -> Any:
    weight, index, padding, by_frequency, _ = bound(op, args, kwargs)
    if by_frequency:
        raise JetUnsupported(op, "scale_grad_by_freq changes the gradient, which a Taylor pass never forms")
    rows = weight.stack.index_select(1, index.flatten())
    if padding >= 0:  # autograd counts no gradient there, so neither do the coefficients
        rows[1:].masked_fill_((index.flatten() == padding).unsqueeze(-1), 0)
    return Jet(rows.view(rows.shape[0], *index.shape, rows.shape[-1]))


def _constant(op: Any, args: Any, kwargs: Any) -> Any:
    """Operators whose derivative vanishes wherever it exists."""
    out = op(*map(constant, args), **{k: constant(v) for k, v in kwargs.items()})
    floating = isinstance(out, Tensor) and (out.is_floating_point() or out.is_complex())
    return Jet(out.unsqueeze(0)) if floating else out


def _detach(op: Any, args: Any, kwargs: Any) -> Any:
    stack: Tensor = args[0].stack
    return Jet(stack[:1], sealed=True)


def _masked_fill(op: Any, args: Any, kwargs: Any) -> Any:
    x, mask, value = args
    if is_live(value):
        return torch.where(mask, value, x)
    out = aligned(stack_of(x), mask.ndim).masked_fill(mask, 0)
    out[0].copy_(op(stack_of(x)[0], mask, value))
    return Jet(out)


def _pad(op: Any, args: Any, kwargs: Any) -> Any:
    x, pad, value = bound(op, args, kwargs)
    out = op(x.stack, pad, 0)
    if value:
        out[0] = op(x.stack[0], pad, value)
    return Jet(out)


def _copy(op: Any, args: Any, kwargs: Any) -> Any:
    target, source, _ = bound(op, args, kwargs)
    return source.to(target.dtype).expand(target.shape)


def _index(op: Any, args: Any, kwargs: Any) -> Any:
    return Jet(op(args[0].stack, [None, *args[1]]))


def _dropout(op: Any, args: Any, kwargs: Any) -> Any:
    x, p, train = bound(op, args, kwargs)
    if not train or p == 0:
        return x
    # ones through the operator itself: the same random numbers as a plain forward draws, hence the same mask
    return x * op(torch.ones_like(x.stack[0]), p, True)


def _native_dropout(op: Any, args: Any, kwargs: Any) -> Any:
    kept, mask = op(torch.ones_like(args[0].stack[0]), *args[1:])
    return args[0] * kept, mask


def _where(op: Any, args: Any, kwargs: Any) -> Any:
    mask, *choices = args
    like = op(mask, *map(constant, choices))  # for its shape and type
    stacks = [
        aligned(x.stack, like.ndim).to(like.dtype).expand(-1, *like.shape)
        if isinstance(x, Jet)
        else (x.to(like.dtype) if isinstance(x, Tensor) else like.new_full((), x)).expand(1, *like.shape)
        for x in choices
    ]
    zero = like.new_zeros(())
    rows = [like]
    for n in range(1, max(map(len, stacks))):
        a, b = (s[n] if n < len(s) else zero for s in stacks)
        rows.append(torch.where(mask, a, b))
    return Jet(torch.stack(rows))


_LINEAR: dict[tuple[int, ...], str] = {
    (0,): """
        neg.default roll.default flip.default repeat.default tril.default triu.default rot90.default
        index_select.default gather.default take.default repeat_interleave.self_int
        reflection_pad1d.default reflection_pad2d.default reflection_pad3d.default
        replication_pad1d.default replication_pad2d.default replication_pad3d.default
        avg_pool1d.default avg_pool2d.default avg_pool3d.default
        _adaptive_avg_pool2d.default _adaptive_avg_pool3d.default adaptive_avg_pool1d.default
        upsample_nearest1d.default upsample_nearest2d.default upsample_nearest3d.default
        _upsample_nearest_exact1d.default _upsample_nearest_exact2d.default _upsample_nearest_exact3d.default
        upsample_linear1d.default upsample_bilinear2d.default upsample_trilinear3d.default
        upsample_bicubic2d.default im2col.default col2im.default unfold.default
        pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default
        cumsum.default trace.default diag_embed.default
        _fft_r2c.default _fft_c2r.default _fft_c2c.default _unsafe_view.default
        nll_loss.default nll_loss_nd.default nll_loss2d.default
         masked_select.default
        """,
    (0, 1): "slice_scatter.default select_scatter.default diagonal_scatter.default",
    (0, 2): "index_put.default",
    (0, 3): "scatter.src scatter.value scatter_add.default index_add.default index_copy.default",
}


_CONSTANT = """
    zeros_like.default ones_like.default full_like.default empty_like.default rand_like.default
    randn_like.default new_zeros.default new_ones.default new_full.default new_empty.default
    sign.default sgn.default round.default round.decimals floor.default ceil.default trunc.default
    bernoulli.default bernoulli.p zero.default fill.Scalar div.Tensor_mode div.Scalar_mode floor_divide.default
    eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar
    ge.Tensor ge.Scalar isnan.default isposinf.default isneginf.default logical_not.default logical_and.default
    logical_or.default any.default all.default argmax.default argmin.default equal.default
    _local_scalar_dense.default
"""

RULES: dict[Any, Any] = {
    aten.contiguous.default: _contiguous,
    **{op: linear_in(*where) for where, names in _LINEAR.items() for op in operators(names)},
    **dict.fromkeys(operators("reshape.default flatten.using_ints unflatten.int"), _reshape),
    **dict.fromkeys(operators("view_as_real.default view_as_complex.default _conj.default"), _on_stack),
    **dict.fromkeys(operators(_CONSTANT), _constant),
    aten.embedding.default: _embedding,
    aten.clone.default: _clone,
    aten._to_copy.default: _to_copy,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.detach.default: _detach,
    aten.masked_fill.Scalar: _masked_fill,
    aten.masked_fill.Tensor: _masked_fill,
    aten.constant_pad_nd.default: _pad,
    aten.copy.default: _copy,
    aten.index.Tensor: _index,
    aten._unsafe_index.Tensor: _index,
    aten.dropout.default: _dropout,
    aten.native_dropout.default: _native_dropout,
    aten.where.self: _where,
    aten.where.ScalarSelf: _where,
    aten.where.ScalarOther: _where,
}
