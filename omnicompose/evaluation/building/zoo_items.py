"""The zoo's held-out media with their captions, and what numbers have in common."""

from pathlib import Path

from omnicompose.evaluation.building.items import Item, Lexicon, attributes_of, words_of
from omnicompose.zoo.media import held_out_media
from omnicompose.zoo.words import NUMBER_PROPERTIES, caption
from omnicompose.zoo.world import NUMBERS


def zoo_items(folder: Path, modalities: tuple[str, ...]) -> list[Item]:
    """Every held-out medium of these modalities, written below `folder`.

    Only the number of a thing is shown in every modality, so what is asked about is what numbers
    have in common: knowledge that captions hold in other words.
    """
    return [
        Item(
            modality=medium.item.modality,
            path=medium.write(folder),
            caption=caption(medium.item),
            attributes=attributes_of(words_of(caption(medium.item)), LEXICON),
        )
        for medium in held_out_media().media
        if medium.item.modality in modalities
    ]


LEXICON: Lexicon = {
    phrase: frozenset(NUMBERS[n] for n in numbers) for phrase, numbers in NUMBER_PROPERTIES.items()
}
