"""Which parameters full fine-tuning trains: all, all but the embeddings, or the head and the last layers.

Layers are found by the model's structure and by running it once, so that no architecture needs a list of names.
"""

from typing import Any

import torch
from torch import nn

from engine.worker.inner import evaluating
from recommender.errors import InputError
from recommender.plan import Plan


def freeze(model: Any, plan: Plan, head: list[str]) -> None:
    """Switch off the gradients of everything that the plan does not train; `head` names modules with fresh weights.

    Raises:
        InputError: the model has fewer layers than the plan wants to train, or none that can be found.
    """
    if plan.trained == "no_embeddings":
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.requires_grad_(False)
    elif plan.trained == "last_layers":
        wanted = plan.last_layers or 1
        layers = layers_of(model)
        if wanted > len(layers):
            raise InputError(f"last_layers is {wanted}, and {plan.model.id} has {len(layers)} layers.")
        above = _called_after(model, layers[-1])
        model.requires_grad_(False)
        for module in [*layers[-wanted:], *above, *(model.get_submodule(name) for name in head)]:
            module.requires_grad_(True)


def layers_of(model: Any) -> nn.ModuleList:
    """The stack of layers: the longest list of modules that stands in no other list; of two, the later (a decoder's).

    Raises:
        InputError: the model has no such list.
    """
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    outer = [m for name, m in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    if not outer:
        raise InputError(f"{type(model).__name__}: its layers cannot be told apart; use trained: all or no_embeddings.")
    longest = max(map(len, outer))
    return [m for m in outer if len(m) == longest][-1]


def _called_after(model: Any, last: nn.Module) -> list[nn.Module]:
    """Modules without children that first run once `last` has run: final norms, a pooler, the head.

    Found by reading one text of two tokens. Registration order would not do: DeBERTa's norm of relative positions is
    registered after its layers and used in each of them.
    """
    called: list[nn.Module] = []
    begun = [m.register_forward_pre_hook(lambda module, _: called.append(module)) for m in model.modules()]
    token = model.config.eos_token_id if isinstance(model.config.eos_token_id, int) else 1  # BART's head looks for an end
    device = next(model.parameters()).device
    try:
        with evaluating(model), torch.no_grad():  # not inference mode, in which a trace cannot answer what depends on a mask
            ids = torch.full((1, 2), min(token, model.config.get_text_config().vocab_size - 1), device=device)
            # An encoder-decoder that writes is told what it has written so far; one that classifies repeats what it reads.
            writes = model.config.is_encoder_decoder and model.can_generate()
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **({"decoder_input_ids": ids} if writes else {}))
    finally:
        for hook in begun:
            hook.remove()
    inside = set(last.modules())
    end = max(i for i, module in enumerate(called) if module in inside)
    before = set(called[: end + 1])
    return [m for m in dict.fromkeys(called[end + 1 :]) if m not in before and not any(m.children())]
