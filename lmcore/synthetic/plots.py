"""The sentences of the stories: an opening, five plots and their endings.

Written in the notation of :mod:`lmcore.synthetic.notation`, with the words of
:mod:`lmcore.synthetic.words`. A plot is a sequence of paragraphs, a paragraph a sequence of
sentences.

Few facts, each told again and again. Measured on an earlier wording of these stories, after 1.7
million tokens: names, places, hues, animals, sums and differences were all known, and most of
what was missing sat in two facts that returned once, at the end (the hobby and a trait). So the
hobby is now told three or four times, and the trait is new at the end. Variety comes from wording,
which is learned at once.
"""

from __future__ import annotations

from lmcore.synthetic.grammar import Choice, Grammar
from lmcore.synthetic.notation import read
from lmcore.synthetic.words import variables

Paragraph = tuple[str, ...]

OPENING: Paragraph = (
    "[Once upon a time, there was|Once there was|Long ago, there lived|There once was] "
    "a [little|young|kind|happy] {+child} named {+hero}.",
    "[{hero}|{hero.He}] loved to {+hobby}. {hero.He} would {hobby} "
    "[all day long|in the sun|with {hero.his} friends|in the rain|after school|every day"
    "|at home].",
)

WHEN = (
    "[One day|One sunny morning|One afternoon|Early one morning|On a warm day|After breakfast"
    "|One fine day|On a quiet morning|After lunch|One bright day]"
)

LOST_TOY: tuple[Paragraph, ...] = (
    (
        WHEN + ", {hero} took {hero.his} {+hue} {+toy} to {+place}.",
        "{hero.He} [played|ran and laughed|had fun|sat down|jumped up and down|rested] "
        "[for a long time|until noon|under the blue sky|in the warm sun|in the soft wind].",
        "[But then|Suddenly|But soon|A little later], the {hue} {toy} was gone!",
    ),
    (
        '"Oh no!" [said|cried|called] {hero}.',
        '"[Where is my {hue} {toy}?|I lost my {hue} {toy}!|I cannot find my {hue} {toy}.'
        '|Who has seen my {hue} {toy}?]"',
        "[Just then|Soon|After a while|At that moment], "
        "{+animal.a} came [by|along|to help|closer].",
        '"[Do not be sad|Do not worry|Wait|Do not cry|Stay here], {hero}," said the {animal}.',
        '"[I will help you|We will find it|I have good eyes|We can look together]."',
    ),
    (
        "They looked [here and there|high and low|all over {place}|up and down|far and wide].",
        '"[Look|I see it|Here it is|Come here|I found it]!" [said|called|cried] the {animal}.',
        '"[It|Your {toy}] is {+spot}!"',
        "{hero} [looked|went to look|ran to look] {spot}, and there it was!",
    ),
)

SHARED_LUNCH: tuple[Paragraph, ...] = (
    (
        WHEN + ", {hero} went to {+place} with {+count} {+fruit} in a [basket|bag|box|paper bag].",
        "[Under a tree|On a bench|In the grass|On the way|Near a big rock], "
        "{hero.he} met {hero.his} friend {+friend}.",
    ),
    (
        '"[Hello|Hi|Oh|Good morning], {hero}," said {friend}.',
        '"I [am so hungry|forgot my lunch|have no lunch|would like some lunch] today."',
        '"[Do not worry|Sit with me|Come here|That is all right], {friend}," '
        "[said|answered] {hero}.",
        '"I have {count} {fruit}[| for us| to share| with me]."',
    ),
    (
        "{hero} gave {+given} {fruit} to {friend}.",
        "Now {hero} had {given.left} {fruit}.",
        '"{count.Word} take away {given} is {given.left}," '
        "[said|laughed] [{hero}|{hero.his} friend].",
        "They [sat|talked|laughed|rested|sang] [together|side by side|in the sun|for a while] "
        "{place.there} and ate the {fruit}.",
    ),
)

SEEDS: tuple[Paragraph, ...] = (
    (
        WHEN + ", {+elder} gave {hero} {+count} [little|tiny|small|round|brown] seeds.",
        '"[They will grow into|These will be|Soon they will be|You will see] {+hue} {+flower}," '
        "said {elder}.",
        '"[Give them water|Take care of them|Look after them] every [day|morning|evening]."',
    ),
    (
        "{hero} put the {count} seeds in the ground "
        "[by the gate|near the door|next to the path|behind the house|in the sun].",
        "Every day, {hero.he} [gave them water|pulled up the weeds|came to look|sang to them] "
        "and [waited|watched|wished|hoped] for the {hue} {flower}.",
    ),
    (
        "[Then|At last|Some weeks later|One morning], {hero} [looked|ran|went] outside "
        "and saw {count} {hue} {flower}[| in the sun| in the rain| in the wind]!",
        '"[Look|Come and see|Come here|Come quickly], {elder}!" [said|called|cried] {hero}.',
        "{hero.He} picked one {flower.one} for {elder}.",
        '"{count.Word} take away one is {count.less}," [said|laughed] [{hero}|{elder}].',
    ),
)

WAY_HOME: tuple[Paragraph, ...] = (
    (
        WHEN + ", {hero} went [for a walk|to play|out|to look for flowers] "
        "in {hero.his} {+hue} {+clothes}.",
        "[On the way|Near the path|Behind a tree|By the river|In the tall grass], "
        "{hero.he} met a [little|tiny|sad|shy|small] {+animal}.",
    ),
    (
        '"[What is wrong|Can I help you|Are you lost|Where do you live]?" asked {hero}.',
        '"I [cannot find|want to find|am looking for|lost the way to] my home," said the {animal}.',
        '"[It is|I live] near the {+den}."',
        '"I know [it|the {den}|the way], {animal}," said {hero}.',
        '"[Come with me|Follow me|Let us go]."',
    ),
    (
        "They walked [over the hill|through the grass|up the path|across the field|past the farm].",
        "The {animal} [followed|held on to|looked up at] the {hue} {clothes} all the way.",
        "[At last|Soon|Then|After a while], they came to the {den}.",
        '"[This is my home|I am home|Thank you|We are here]!" [said|cried|called] the {animal}.',
    ),
)

BAKING: tuple[Paragraph, ...] = (
    (
        WHEN + ", {hero} and {+elder} made {+fruit.a} {+cake}"
        "[| for lunch| for a friend| together].",
        "{hero} [took out|washed|found|chose|got] a [big|round|deep|little] {+hue} bowl.",
    ),
    (
        "{hero} put {+count} {fruit} in the {hue} bowl, and {elder} put in {+more} more.",
        '"How many {fruit} [are there|are in the bowl|do we have][| now]?" asked {elder}.',
        '"{count.Word} and {more} is {more.sum}," [said|answered] {hero}.',
        '"[Yes|That is right|Very good|Well done|Good], {hero}! We have {more.sum} {fruit}."',
    ),
    (
        "They [mixed|stirred] it [all|well|slowly|with a spoon], "
        "and soon the {fruit.one} {cake} was [done|ready|in the oven|on the table].",
        "They ate the {fruit.one} {cake} "
        "[by the window|outside|in the sun|under a tree|with some milk|with a smile].",
    ),
)


def ending(partner: str, afterwards: str) -> Paragraph:
    """The last paragraph, in which the hobby of the opening returns."""
    return (
        "{hero} [was so happy|was so glad|felt so good|was so proud|felt so warm inside] "
        "that {hero.he} [began|started|wanted] to {hobby}"
        "[, and " + partner + " began to {hobby} too| again| with joy].",
        '"You are [very|so|really|truly|always] {+trait}, {hero}," [said|laughed] ' + partner + ".",
        "[From that day on|After that day|From then on], {hero} and " + f"{partner} {afterwards}.",
    )


# Each plot with whoever shares the ending, and what became of the two.
PLOTS: tuple[tuple[tuple[Paragraph, ...], Paragraph], ...] = (
    (
        LOST_TOY,
        ending("the {animal}", "[were good friends|often played together|shared the {hue} {toy}]"),
    ),
    (
        SHARED_LUNCH,
        ending("{friend}", "[were best friends|often met {place.there}|shared their lunch]"),
    ),
    (
        SEEDS,
        ending("{elder}", "[loved {hue} {flower}|grew {flower} every year|loved the garden]"),
    ),
    (
        WAY_HOME,
        ending("the {animal}", "[were good friends|often met near the {den}|took walks together]"),
    ),
    (
        BAKING,
        ending("{elder}", "[loved to bake|made {fruit.a} {cake} every week|cooked together]"),
    ),
)


def grammar_of_stories() -> Grammar:
    """The opening, then one of the plots, all equally likely."""
    opening = _template(OPENING) + "\n"
    plots = tuple(read(_template(*plot, end)) for plot, end in PLOTS)
    return Grammar(variables(), (*read(opening), Choice(plots, (1,) * len(plots))))


def _template(*paragraphs: Paragraph) -> str:
    """One template: sentences joined by spaces, paragraphs by line ends."""
    return "\n".join(" ".join(paragraph) for paragraph in paragraphs)
