"""The nano model's text side: a small frozen random UMT5 and a tokenizer built in memory.

Random weights are enough at this size: every word keeps an embedding of its own, mixed a little
with its neighbours', and the DiT learns what each means. Real checkpoints bring their own UMT5.

Shapes: B batch, S tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from dreamontage.models.devices import ship

TEXT_LENGTH = 96  # tokens; `max_sequence_length` of the nano folder
_PAD, _EOS, _UNK = "<pad>", "</s>", "<unk>"
_SPACE = "▁"  # how SentencePiece writes the space before a word

# Words of films and of everyday things, beside those of the training captions: any other word is
# spelled out, by syllables, letters or bytes.
_COMMON = """
a about above across after again against air all along an and another animal around arrives as at
away baby back background ball beach bear beautiful becomes bed begins behind below between big
bird black blue blur boat body book bottom boy bridge bright brown building burns bus by camera
car castle cat chair changes child city clear climbs close closer cloud clouds cold colour comes
corner countryside crowd cut dances dark dawn day deep desert dog door down drives drops dusk each
earth edge empty end enters evening ever every eye eyes face falls far fast field fire first fish
flies floor flower flowers flows fog follows foot for forest forward from front game garden gentle
girl glass glides gold grass green grey ground grows hair hand head heart high hill hills his her
holds horse hot house ice in inside into is island it its jumps keeps kitchen lake lamp land
landscape large last leaf left lens light like line lines lion little long looks low man meadow
men metal moon more morning mountain mountains moves moving music near new next night of old on
one onto opens orange orbits other out outside over page paints pans park part past path people
person phone picture pink place plane plant poster product pulls purple pushes rain red rests
right rises river road robot rock roll rolls roof room round runs rushes sail sand scene screen
sea second shadow shape ship shoes shop shore shot shows side sky sleeps slow slowly small smoke
snow soft space spins stands star stars starts stays steps still stone stops storm street style
sun sunset sunrise surface swims table tall the their then through tilt time to top toward towards
tower town track train travels tree trees truck turns under up valley very view village walks wall
warm watch water wave waves we white wide wind window winter with woman women wood world yellow
young zoom zooms
"""
_SYLLABLES = """
able ac ad al an ar as at ate au be bl br can ce ch ci co com con cr de di do dr ed en er es ess
est et ever ex fi fl fo ful ga ge gi gl gr ha he ho ic ight il in ing ion ious ir is ish ist it
ity ive la le less li lo ly ma me ment mi mo mu na ne ness ni no nt ol om on op or ou ous ow pa pe
ph pi pl po pr pro qu ra re ri ro sa se sh si sk sl sp st ta te th ti tion to tr tu ture ty ul um
un ur us ut ve vi wa we wh wi
"""


def build_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer over `words` and common ones; signs stand alone, bytes catch the rest.

    The same words give the same file.
    """
    known = sorted({*words, *_COMMON.split()})
    assert all(re.fullmatch(r"[a-z]+", word) for word in known), "words are lower-case letters"
    signs = [chr(c) for c in range(33, 127) if not chr(c).isalpha()]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    # Scores are log probabilities: the fewest pieces win.
    pieces = [(_PAD, 0.0), (_EOS, 0.0), (_UNK, -100.0)]
    pieces += [(f"<0x{byte:02X}>", -30.0) for byte in range(256)]
    pieces += [(_SPACE, -12.0)]
    pieces += [(sign, -8.0) for sign in [*letters, *signs]]
    pieces += [(_SPACE + sign, -9.0) for sign in [*letters, *signs] if sign != "a"]
    pieces += [(part, -11.0) for part in sorted(set(_SYLLABLES.split())) if len(part) > 1]
    pieces += [(_SPACE + word, -10.0) for word in known]
    assert len(dict(pieces)) == len(pieces) <= 2000

    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_EOS}", special_tokens=[(_EOS, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_EOS,
        unk_token=_UNK,
        model_max_length=TEXT_LENGTH,
    )


def build_encoder(
    vocab_size: int, *, width: int = 64, layers: int = 2, seed: int = 0
) -> UMT5EncoderModel:
    """A frozen UMT5 encoder with random weights; the same seed gives the same weights."""
    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=width,
        d_kv=16,
        d_ff=2 * width,
        num_layers=layers,
        num_heads=width // 16,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = UMT5EncoderModel(config)
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def embed(
    tokenizer: Any, encoder: Any, prompts: Sequence[str], length: int = TEXT_LENGTH
) -> Tensor:
    """Embeddings (B, length, D) of prompts, zeros after each one's end, as diffusers' Wan pipelines
    make them: the DiT attends to the zeros too.
    """
    tokens = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    mask_BS = ship(tokens.attention_mask, encoder.device)
    states_BSD = encoder(ship(tokens.input_ids, encoder.device), mask_BS).last_hidden_state
    return states_BSD * mask_BS[..., None]
