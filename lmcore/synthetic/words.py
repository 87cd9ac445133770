"""The words of the stories: people, animals, places, things, and what goes with them.

Within a list the order is the frequency: :func:`lmcore.synthetic.grammar.zipf` weighs each entry
by its rank. Names that may be drawn for two people of one story are told apart by making the
second depend on the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lmcore.synthetic.grammar import Entry, Variable, zipf

SHE = {"he": "she", "his": "her", "him": "her"}
HE = {"he": "he", "his": "his", "him": "him"}

GIRLS = (
    "Mia",
    "Lily",
    "Anna",
    "Ruby",
    "Nora",
    "Ella",
    "Zoe",
    "Molly",
    "Clara",
    "Lucy",
    "Emma",
    "Alice",
)
BOYS = ("Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Jack", "Theo", "Hugo", "Toby", "Noah", "Oscar")

TRAITS = ("kind", "helpful", "cheerful", "gentle", "clever", "friendly", "patient", "brave")
HOBBIES = ("sing", "dance", "skip", "hum", "clap", "whistle", "twirl", "jump")
HUES = ("red", "blue", "yellow", "green", "orange", "purple", "pink", "white")
TOYS = ("ball", "kite", "boat", "doll", "truck", "drum", "train", "bucket", "robot", "teddy bear")
ANIMALS = ("rabbit", "squirrel", "owl", "duck", "fox", "mouse", "hedgehog", "frog")
CLOTHES = ("hat", "coat", "scarf", "cap", "sweater")
CAKES = ("pie", "cake", "tart")

# Each place with the phrase for being there.
PLACES = {
    "the park": "in the park",
    "the beach": "on the beach",
    "the forest": "in the forest",
    "the pond": "by the pond",
    "the meadow": "in the meadow",
    "the hill": "on the hill",
    "the farm": "at the farm",
    "the river": "by the river",
}
SPOTS = (
    "under a bush",
    "behind a tree",
    "in the tall grass",
    "next to a big rock",
    "beside a log",
    "under a bench",
    "between the flowers",
    "behind the fence",
)
DENS = (
    "old oak tree",
    "hollow log",
    "mossy rock",
    "little bridge",
    "stone wall",
    "blackberry bush",
    "tall pine tree",
    "wooden gate",
)

# Plural and singular.
FRUIT = {
    "apples": "apple",
    "pears": "pear",
    "plums": "plum",
    "peaches": "peach",
    "strawberries": "strawberry",
    "cherries": "cherry",
}
FLOWERS = {
    "tulips": "tulip",
    "roses": "rose",
    "daisies": "daisy",
    "poppies": "poppy",
    "pansies": "pansy",
}
ELDERS = {"Grandma": SHE, "Grandpa": HE, "Mama": SHE, "Papa": HE}

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
COUNTS = (6, 5, 8, 7, 4, 9)


def article(noun: str) -> str:
    """The noun with its indefinite article, by its first letter."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def table(forms_by_word: Mapping[str, Mapping[str, str]]) -> tuple[Entry, ...]:
    """Entries from words and their forms, weighed by rank."""
    weights = zipf(len(forms_by_word))
    pairs = zip(forms_by_word.items(), weights, strict=True)
    return tuple(Entry(word, weight, forms) for (word, forms), weight in pairs)


def nouns(words: Iterable[str]) -> tuple[Entry, ...]:
    """Entries with the form ``a``: with the indefinite article."""
    return table({word: {"a": article(word)} for word in words})


def people() -> dict[str, Mapping[str, str]]:
    """Every child's name with its pronouns, girls and boys by turns."""
    turns = zip(GIRLS, BOYS, strict=True)
    return {name: forms for girl, boy in turns for name, forms in ((girl, SHE), (boy, HE))}


def _counts() -> tuple[Entry, ...]:
    """How many of something, with one less."""
    return table({NUMBERS[n]: {"less": NUMBERS[n - 1]} for n in COUNTS})


def _given() -> dict[str, tuple[Entry, ...]]:
    """How many of them are given away: at least two, and at least two are left."""
    return {
        NUMBERS[n]: table({NUMBERS[k]: {"left": NUMBERS[n - k]} for k in (2, 3, 4) if k <= n - 2})
        for n in COUNTS
    }


def _more() -> dict[str, tuple[Entry, ...]]:
    """How many are added, with the sum, twelve at most."""
    return {
        NUMBERS[n]: table({NUMBERS[k]: {"sum": NUMBERS[n + k]} for k in (2, 3)}) for n in COUNTS
    }


def variables() -> dict[str, Variable]:
    """Every variable of the stories, by name."""
    names = people()
    friends = {
        hero: table({name: forms for name, forms in names.items() if name != hero})
        for hero in names
    }
    heroes = {
        "girl": table({name: names[name] for name in GIRLS}),
        "boy": table({name: names[name] for name in BOYS}),
    }
    return {
        "child": Variable("child", {"": (Entry("girl"), Entry("boy"))}),
        "hero": Variable("hero", heroes, "child"),
        "friend": Variable("friend", friends, "hero"),
        "trait": Variable("trait", {"": nouns(TRAITS)}),
        "hobby": Variable("hobby", {"": nouns(HOBBIES)}),
        "hue": Variable("hue", {"": nouns(HUES)}),
        "toy": Variable("toy", {"": nouns(TOYS)}),
        "animal": Variable("animal", {"": nouns(ANIMALS)}),
        "clothes": Variable("clothes", {"": nouns(CLOTHES)}),
        "cake": Variable("cake", {"": nouns(CAKES)}),
        "place": Variable("place", {"": table({p: {"there": t} for p, t in PLACES.items()})}),
        "spot": Variable("spot", {"": nouns(SPOTS)}),
        "den": Variable("den", {"": nouns(DENS)}),
        "fruit": Variable(
            "fruit", {"": table({p: {"one": s, "a": article(s)} for p, s in FRUIT.items()})}
        ),
        "flower": Variable("flower", {"": table({p: {"one": s} for p, s in FLOWERS.items()})}),
        "elder": Variable("elder", {"": table(ELDERS)}),
        "count": Variable("count", {"": _counts()}),
        "given": Variable("given", _given(), "count"),
        "more": Variable("more", _more(), "count"),
    }
