"""The stories of the embedded corpus: five plots, and the floor that no model can beat.

A child with a trait and a hobby meets one of five plots (a lost toy, a shared lunch, seeds, an
animal on its way home, baking); what was told early returns near the end. Plots and endings are
written in the notation of :mod:`lmcore.synthetic.notation`, words in
:mod:`lmcore.synthetic.words`. How the floor follows from them:
:mod:`lmcore.synthetic.grammar`.

Few facts, each told again and again, because what a small model has not yet learned after its
first two million tokens is facts that return once, late in the story.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

from lmcore.synthetic import grammar
from lmcore.synthetic.grammar import Choice, Grammar
from lmcore.synthetic.notation import read
from lmcore.synthetic.program import Node, agreement, link, log2_probability, write
from lmcore.synthetic.validation import validated
from lmcore.synthetic.words import variables


def paragraphs(*sentences: tuple[str, ...]) -> str:
    """One template: sentences joined by spaces into paragraphs, paragraphs by line ends."""
    return "\n".join(" ".join(paragraph) for paragraph in sentences)


WHEN = (
    "[One day|One sunny morning|One afternoon|Early one morning|On a warm day|After breakfast"
    "|One fine day]"
)

OPENING = (
    "[Once upon a time, there was|Once there was|Long ago, there lived|There once was] "
    "{+trait.a} [little|young] {+child} named {+hero}.",
    "[{hero}|{hero.He}] loved to {+hobby}[| all day long| in the sun| with {hero.his} friends"
    "| in the rain| after school].",
)

LOST_TOY = paragraphs(
    (
        f"{WHEN}, {{hero}} took {{hero.his}} {{+hue}} {{+toy}} to {{+place}}.",
        "{hero.He} [played|ran and laughed|had fun|sat down to rest] "
        "[for a long time|until noon|under the blue sky|with a smile].",
        "[But then|Suddenly|But soon], the {hue} {toy} was gone!",
    ),
    (
        '"Oh no!" [said|cried|called] {hero}. "[Where is my {hue} {toy}?|I lost my {hue} {toy}!'
        '|I cannot find my {hue} {toy}.|Who has seen my {hue} {toy}?]"',
        "[Just then|Soon|After a while], {+animal.a} came [by|along|to help].",
        '"[Do not be sad|Do not worry|Wait], {hero}," said the {animal}. '
        '"[I will help you|We will find it|I have good eyes]."',
    ),
    (
        "They looked [here and there|high and low|all over {place}|up and down].",
        '"[Look|I see it|Here it is|Come here]!" [said|called|cried] the {animal}. '
        '"[It|Your {toy}] is {+spot}!"',
        "{hero} [looked|went to look] {spot}, and there it was!",
    ),
)

SHARED_LUNCH = paragraphs(
    (
        f"{WHEN}, {{hero}} went to {{+place}} with {{+count}} {{+fruit}} in a [basket|bag|box].",
        "[Under a tree|On a bench|In the grass|On the way], {hero.he} met "
        "{hero.his} friend {+friend}.",
    ),
    (
        '"[Hello|Hi|Oh], {hero}," said {friend}. '
        '"I [am so hungry|forgot my lunch|have no lunch] today."',
        '"[Do not worry|Sit with me|Come here], {friend}," [said|answered] {hero}. '
        '"I have {count} {fruit}[| for us| in my lunch]."',
    ),
    (
        "{hero} gave {+given} {fruit} to {friend}. Now {hero} had {given.left} {fruit}.",
        '"{count.Word} take away {given} is {given.left}," '
        "[said|laughed] [{hero}|{hero.his} friend].",
        "They [sat|talked|laughed|rested] [together|side by side|in the sun] {place.there} "
        "and ate the {fruit}.",
    ),
)

SEEDS = paragraphs(
    (
        f"{WHEN}, {{+elder}} gave {{hero}} {{+count}} [little|tiny|small|round] seeds.",
        '"[They will grow into|These will be|Soon they will be] {+hue} {+flower}," said {elder}. '
        '"[Give them water|Take care of them|Look after them] every [day|morning|evening]."',
    ),
    (
        "{hero} put the {count} seeds in the ground "
        "[by the gate|near the door|next to the path|behind the house].",
        "Every day, {hero.he} [gave them water|pulled up the weeds|came to look] and "
        "[waited|watched|wished|hoped] for the {hue} {flower}.",
    ),
    (
        "[Then|At last|Some weeks later], {hero} [looked|ran|went] outside and saw {count} {hue} "
        "{flower}[| in the sun| in the rain]!",
        '"[Look|Come and see|Come here], {elder}!" [said|called|cried] {hero}.',
        "{hero.He} picked one {flower.one} for {elder}. "
        '"{count.Word} take away one is {count.less}," [said|laughed] [{hero}|{elder}].',
    ),
)

WAY_HOME = paragraphs(
    (
        f"{WHEN}, {{hero}} went [for a walk|to play|out] in {{hero.his}} {{+hue}} {{+clothes}}.",
        "[On the way|Near the path|Behind a tree|By the river], {hero.he} met "
        "a [little|tiny|sad|shy] {+animal}.",
    ),
    (
        '"[What is wrong|Can I help you|Are you lost]?" asked {hero}.',
        '"I [cannot find|want to find|am looking for] my home," said the {animal}. '
        '"[It is|I live] near the {+den}."',
        '"I know [it|the {den}|the way], {animal}," said {hero}. "[Come with me|Follow me]."',
    ),
    (
        "They walked [over the hill|through the grass|up the path|across the field].",
        "The {animal} [held on to|looked up at|sat on] the {hue} {clothes} all the way.",
        "[At last|Soon|Then], they came to the {den}.",
        '"[This is my home|I am home|Thank you]!" [said|cried|called] the {animal}.',
    ),
)

BAKING = paragraphs(
    (
        f"{WHEN}, {{hero}} and {{+elder}} made {{+fruit.a}} {{+cake}}[| for lunch| for a friend].",
        "{hero} [took out|washed|found|chose] a [big|round|deep] {+hue} bowl.",
    ),
    (
        "{hero} put {+count} {fruit} in the {hue} bowl, and {elder} put in {+more} more.",
        '"How many {fruit} [are there|are in the bowl|do we have][| now]?" asked {elder}.',
        '"{count.Word} and {more} is {more.sum}," [said|answered] {hero}.',
        '"[Yes|That is right|Very good|Well done], {hero}! We have {more.sum} {fruit}."',
    ),
    (
        "They [mixed|stirred] it [all|well|slowly], and soon the {fruit.one} {cake} was "
        "[done|ready|in the oven].",
        "They ate the {fruit.one} {cake} "
        "[by the window|at the table|in the sun|under a tree|with some milk].",
    ),
)


def ending(partner: str, afterwards: str) -> str:
    """The last paragraph: the hobby and the trait of the opening return."""
    return " ".join(
        (
            "{hero} [was so happy|was so glad|felt so good|was so proud] that {hero.he} "
            "[began|started|wanted] to {hobby}.",
            f'"You are [very|so|really|truly] {{trait}}, {{hero}}," [said|laughed] {partner}.',
            f"[From that day on|After that day|From then on], {{hero}} and {partner} {afterwards}.",
        )
    )


PLOTS = (
    (LOST_TOY, ending("the {animal}", "[were good friends|played with the {hue} {toy}]")),
    (SHARED_LUNCH, ending("{friend}", "[were best friends|often met {place.there}]")),
    (SEEDS, ending("{elder}", "[loved the {hue} {flower}|grew {flower} every year]")),
    (WAY_HOME, ending("the {animal}", "[were good friends|often met near the {den}]")),
    (BAKING, ending("{elder}", "[loved to bake|made {fruit.a} {cake} every week]")),
)


@cache
def story_grammar() -> Grammar:
    """The grammar of the stories, its unambiguity proven."""
    plots = tuple(read(paragraphs((plot,), (end,))) for plot, end in PLOTS)
    equal = Choice(plots, (1,) * len(plots))
    return validated(Grammar(variables(), (*read(" ".join(OPENING) + "\n"), equal)))


@cache
def _start() -> Node | None:
    """The linked grammar, made once."""
    return link(story_grammar())


def story(seed: int, index: int) -> str:
    """Story number ``index`` of a seed, a pure function of both.

    Any two different pairs give independent stories, so training and validation are told apart by
    their seeds or by their ranges of indices.

    Args:
      seed: any integer.
      index: any integer.

    Returns:
      A story of a few paragraphs, without a final line end.

    Example:
      >>> story(seed=0, index=1).split(",")[0]
      'Once upon a time'
    """
    return write(_start(), seed, index)


def stories(seed: int, start: int, count: int) -> Iterator[str]:
    """Stories ``start`` to ``start + count - 1`` of a seed, one at a time.

    Args:
      seed: any integer.
      start: index of the first story.
      count: how many.

    Yields:
      What :func:`story` returns for each index.

    Example:
      >>> list(stories(seed=0, start=5, count=2)) == [story(0, 5), story(0, 6)]
      True
    """
    first = _start()
    return (write(first, seed, index) for index in range(start, start + count))


def story_log2_probability(text: str) -> float:
    """Exact log2 of the probability that a story is ``text``; its negative is the story's bits.

    Summed over a validation set it gives that set's *realised floor*: no model expects to spend
    fewer bits on these very stories.

    Args:
      text: a whole story, without anything before or after it.

    Returns:
      Bits, at most zero; minus infinity for a text that is not a story (see :func:`is_story`).

    Example:
      >>> story_log2_probability("Once upon a time, the end.")
      -inf
    """
    return log2_probability(_start(), text)


def is_story(text: str) -> bool:
    """Whether the grammar can make ``text``: of generated samples, the share that is right.

    Args:
      text: a whole story.

    Returns:
      True if its probability is positive: every recall, sum and pronoun in it is right.

    Example:
      >>> is_story(story(seed=0, index=0)), is_story("The end.")
      (True, False)
    """
    return story_log2_probability(text) > -math.inf


def story_agreement(text: str) -> int:
    """How many leading characters of ``text`` agree with some story: where a sample goes wrong.

    Args:
      text: the beginning of a story, right or wrong.

    Returns:
      A count of characters, ``len(text)`` if nothing is wrong with it (it may be unfinished).

    Example:
      >>> story_agreement("Once upon a time, there is")
      24
    """
    return agreement(_start(), text)


@cache
def expected_bits() -> float:
    """Entropy of a story in bits, in closed form (:mod:`lmcore.synthetic.grammar`).

    Returns:
      The least that any model can spend on a story on average.

    Example:
      >>> 60 < expected_bits() < 110
      True
    """
    return grammar.expected_bits(story_grammar())


@cache
def expected_bytes() -> float:
    """Mean length of a story in UTF-8 bytes, in closed form.

    Returns:
      Bytes a story, without the end-of-text token.

    Example:
      >>> 450 < expected_bytes() < 650
      True
    """
    return grammar.expected_bytes(story_grammar())


def entropy_bits_per_byte() -> float:
    """The floor: expected bits over expected bytes.

    Returns:
      Bits a byte. A model that scores below it, by more than the chance of a finite validation
      set, has seen what it should not have.

    Example:
      >>> entropy_bits_per_byte() == expected_bits() / expected_bytes()
      True
    """
    return expected_bits() / expected_bytes()
