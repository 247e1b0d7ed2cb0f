"""Attention among the tokens of each conversation of a row that holds many: exact, and no mask as large as its square.

Every layer but attention works on the row as it is, without padding. Attention lays the conversations beside each
other, as long as the longest, and back: the end of a row is hidden by causality alone, so the causal kernels of torch
apply (on GPUs flash attention), and nothing has to be installed or compiled.

# B conversations, N tokens of all, T tokens of the longest, H heads, D width of a head
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

NAME = "apart"


def attention(
    module: torch.nn.Module,
    query_1HND: Tensor,
    key_1HND: Tensor,
    value_1HND: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each conversation, (1, N, H, D); conversation b is tokens `cu_seq_lens_q[b]` up to b + 1.

    The signature is that of transformers' attention functions.
    """
    starts_B, ends_B = cu_seq_lens_q[:-1, None].long(), cu_seq_lens_q[1:, None].long()
    token_BT = starts_B + torch.arange(int((ends_B - starts_B).max()), device=starts_B.device)
    real_BT = token_BT < ends_B
    token_BT = token_BT.clamp(max=query_1HND.shape[2] - 1)  # behind an end: any token, nobody sees it

    def beside(states_1HND: Tensor) -> Tensor:
        return states_1HND[0].transpose(0, 1)[token_BT].transpose(1, 2)

    out_BHTD = functional.scaled_dot_product_attention(
        beside(query_1HND),
        beside(key_1HND),
        beside(value_1HND),
        is_causal=True,
        scale=scaling,
        dropout_p=dropout,
        enable_gqa=query_1HND.shape[1] != key_1HND.shape[1],
    )
    return out_BHTD.transpose(1, 2)[real_BT][None], None


AttentionInterface.register(NAME, attention)
