"""Token mixers with a matrix for a memory: eight recurrences, each written three times.

    S_t = A_t S_{t-1} + b_t,    o_t = S_t^T q_t / sqrt(dk)        (LT2 2605.20670, table 1)

| mixer | A_t | b_t | arguments after q |
|---|---|---|---|
| `linear` | I | k v^T | k, v |
| `retnet` | gamma I | k v^T | k, v, g=None |
| `mamba2` | alpha I | k v^T | k, v, g |
| `gla` | Diag(alpha) | k v^T | k, v, g |
| `hgrn2` | Diag(alpha) | (1 - alpha) v^T | v, g |
| `deltanet` | I - beta k k^T | beta k v^T | k, v, beta |
| `gated_delta` | alpha (I - beta k k^T) | beta k v^T | k, v, g, beta |
| `kda` | (I - beta k k^T) Diag(alpha) | beta k v^T | k, v, g, beta |

Of each, `ops.<mixer>.naive` reads like the table, `recurrent` is what decoding needs (one token after another, no matrix A_t),
and `chunk` is what training needs: matrix products and triangular solves. All three take the same arguments, return `(o, state)`,
and agree in values and gradients. `kda` decays first, then writes, as flash-linear-attention does (and as table 1 has it;
equation 4 of the paper has the other order, which differs when alpha is not one number).

Arguments, everywhere:
    q, k: `[B, L, H, dk]`, one dtype with v. q is scaled by dk^-0.5 inside. k is taken as it is: the delta rules expect unit
        length, and with beta in [0, 2] they then never make the state grow.
    v: `[B, L, H, dv]`.
    g: log alpha, at most 0: `[B, L, H]` for `mamba2` and `gated_delta`, `[B, L, H, dk]` for `gla`, `hgrn2` and `kda`, `[H]` for
        `retnet` (None: log(1 - 2^-5-h)). In q's dtype or the state's. `-inf` forgets everything, exactly; its gradient is 0.
    beta: `[B, L, H]`, in [0, 1], or [0, 2] to reach negative eigenvalues.
    state: `[B, H, dk, dv]`, the memory before the first token; None: zeros. float32, also under autocast and for bfloat16
        inputs; float64 for float64 inputs. The state returned is of the same dtype and never shares memory with the one given.
    chunk_size: tokens per chunk in `chunk`; the result does not depend on it beyond rounding. Ignored by the other two.
    mask: `[B, L]` bool, False at padding, wherever it stands: such a token leaves the state alone, its output is 0, and
        whatever it holds (NaN too) is never read. It receives no gradient.
    reset: `[B, L]` bool, True at the first token of every sequence of a packed row: the state is forgotten before it,
        exactly, the `state` given included if it is the row's first token. `starts` makes it from lengths. The state returned
        is that of the last sequence in the row.
    implementation: "auto", "torch" or "fla" (flash-linear-attention's kernels) for `chunk`; see `implementation`, which
        says what runs and why. Ignored by the other two.

`o` is `[B, L, H, dv]` in v's dtype. L = 0 and B = 0 are fine. NaN or inf in a token reaches all later tokens of its own row and head,
past a `reset` too (0 times NaN is NaN), and in `chunk` also the earlier tokens of its chunk; nothing else.
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "deltanet",
        "gated_delta",
        "gla",
        "hgrn2",
        "kda",
        "linear",
        "mamba2",
        "retnet",
    ),
    names={"implementation": "_fla", "starts": "_inputs"},
)
