"""Sentences of our own: some to judge builds on, some whose likeness is known."""

from __future__ import annotations

from itertools import product
from string import Formatter
from typing import Final

import numpy as np

SEED: Final = 11

TEMPLATES: Final = (
    "How do I {task} on {thing}?",
    "My {thing} stopped working after {event}, what should I do?",
    "{person} {moved} to {place} because of {reason}.",
    "The {thing} that I ordered {when} has still not arrived at {place}.",
    "Please {task} before {event}.",
    "{person} wrote a short report on {topic} for {audience}.",
    "A new study links {topic} to {reason}.",
    "{when}, {person} gave a talk about {topic} at {place}.",
    "Is there a cheaper way to {task} without {event}?",
    "The price of {topic} rose {when} after {event}.",
    "I would like to return the {thing}; it was damaged during {event}.",
    "According to {person}, {topic} matters more than {reason}.",
    "{place} is closed {when} due to {reason}, says {person}.",
    "Compare {topic} with {reason} in simple words for {audience}.",
    "{person} could not {task}, so {audience} had to wait for {event}.",
    "Where can {audience} learn about {topic} near {place}?",
)

WORDS: Final = {
    "task": (
        "reset the password",
        "replace the battery",
        "book two train tickets",
        "translate a contract into French",
        "cook rice for twelve people",
        "repair a flat tyre",
        "cancel the subscription",
        "measure the heart rate",
        "grow tomatoes from seed",
        "back up all photographs",
    ),
    "thing": (
        "laptop",
        "washing machine",
        "blue bicycle",
        "telescope",
        "coffee grinder",
        "winter coat",
        "hearing aid",
        "electric guitar",
        "water filter",
        "phone",
    ),
    "event": (
        "the last software update",
        "a thunderstorm",
        "the board meeting",
        "shipping",
        "the football final",
        "a power cut",
        "the school holidays",
        "an earthquake",
        "the wedding",
        "the tax deadline",
    ),
    "person": (
        "My sister",
        "The mayor",
        "A retired engineer",
        "The head nurse",
        "Our landlord",
        "A young violinist",
        "The new goalkeeper",
        "An astronomer",
        "The bakery's owner",
        "Professor Okafor",
    ),
    "moved": ("drove", "walked", "flew", "sent a letter", "returned", "refused to go"),
    "place": (
        "the harbour",
        "the city library",
        "a small village in the Alps",
        "the central station",
        "the hospital",
        "an island off the coast",
        "the old cinema",
        "the university",
        "a vineyard",
        "the airport",
    ),
    "reason": (
        "heavy rain",
        "a lack of sleep",
        "the housing shortage",
        "a family emergency",
        "cheap solar power",
        "an outbreak of flu",
        "road works",
        "childhood friendships",
        "rising interest rates",
        "good manners",
    ),
    "topic": (
        "wheat",
        "coral reefs",
        "machine translation",
        "public transport",
        "antibiotics",
        "medieval trade",
        "electric cars",
        "sleep in teenagers",
        "chess openings",
        "drinking water",
    ),
    "when": (
        "last week",
        "on Monday",
        "in early spring",
        "three days ago",
        "every evening",
        "during the night",
    ),
    "audience": (
        "beginners",
        "the committee",
        "her students",
        "small farms",
        "tourists",
        "the insurance company",
    ),
}

KNOWN_SENTENCES: Final = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
)
"""The example of the Sentence Transformers documentation, with the likeness printed there."""
KNOWN_LIKENESS: Final = (
    (1.0000, 0.6660, 0.1046),
    (0.6660, 1.0000, 0.1411),
    (0.1046, 0.1411, 1.0000),
)

PARAPHRASES: Final = (
    (
        "How can I change my password?",
        "What do I do to get a new password?",
        "The recipe needs three eggs and a lemon.",
    ),
    (
        "The train was late because of snow.",
        "Snowfall delayed the railway service.",
        "She teaches mathematics at a secondary school.",
    ),
    (
        "A cat is sleeping on the sofa.",
        "A kitten naps on the couch.",
        "The central bank raised interest rates.",
    ),
    (
        "Doctors recommend drinking enough water.",
        "Physicians advise people to stay hydrated.",
        "The band will release a new record in May.",
    ),
    (
        "He repaired the broken bicycle himself.",
        "He fixed the bike on his own.",
        "Parliament voted on the new law last night.",
    ),
)
"""A sentence, the same in other words, and one about something else."""


def write_sentences(count: int) -> list[str]:
    """`count` different sentences, the same ones every time, evenly over the templates."""
    random = np.random.default_rng(SEED)
    share = -(-count // len(TEMPLATES))
    rounds = [_fill_template(template, share, random) for template in TEMPLATES]
    return [sentence for turn in zip(*rounds, strict=True) for sentence in turn][:count]


def _fill_template(template: str, count: int, random: np.random.Generator) -> list[str]:
    slots = [name for _, name, _, _ in Formatter().parse(template) if name]
    choices = list(product(*(WORDS[slot] for slot in slots)))
    chosen = random.choice(len(choices), size=count, replace=False)
    filled = (template.format(**dict(zip(slots, choices[at], strict=True))) for at in chosen)
    return [sentence[0].upper() + sentence[1:] for sentence in filled]
