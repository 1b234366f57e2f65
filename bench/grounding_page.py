"""docs/results/grounding.md, made anew from the figures: tables, and every sentence that depends on them."""

from collections.abc import Iterable

from bench.grounding_answer import answer, others_tried, wrapped
from bench.grounding_subject import REACH
from bench.grounding_tables import (
    PARTS,
    Figures,
    all_maps_table,
    asked_table,
    difference_table,
    finding_table,
    firsts,
    fraud_table,
    markdown,
    number,
    rule_table,
    ruled,
    slot_table,
    told_table,
    training_table,
    validation_table,
)
from components.evaluate.grounding import FEWEST_CLAIMS
from components.evaluate.maps import RESOLUTION

HEAD = """# Do the evidence maps say anything about this patient?

SYNTHETIC: phantom radiographs, the `tiny` preset. Nothing here follows for patients.
"""

RULE = """## The rule
A map is made of a sentence of the generated report and the image alone. Judged are sentences that name a finding which
the study has, on its side. A map has to beat the map of the same finding on another patient's image, and the mean
training mask of the finding and the side that the sentence names, in pointing and in pixel AUC, with 95 % intervals
(1,000 resamples of patients) that do not overlap. Means are over the claims of a finding, then over findings with at
least {fewest} claims. {cells} x {cells} cells. Priors are made of {priors} films of other patients, rendered alike.

The verdict is computed by every evaluation for its own model and data, and travels with the maps of that model.

## The models
Every model learned from {patients} patients of its own world, and is judged on fresh films of the same world.
- **usual**: phantoms as they are.
- **bodies move**: shifts up to 5 cm of 36, 10 degrees, up to a quarter smaller (`position_spread` 1).
- **findings move**: consolidations, opacities and nodules lie anywhere in the side and zone that the report names, and
  are 40 % smaller; plates of atelectasis are half as long, anywhere in the lower third; tips of tubes and lines and the
  pacemaker's can move too (`finding_spread` 1). What fills its place cannot move: effusion, pneumothorax, cardiomegaly,
  wide mediastinum, edema, pleural thickening.
- **both move**: both.
- **slots spread**: the same data, but in training the image's slots pay for reading the same patches, up to
  10 or 1 nats per report (`experiment.slot_overlap`).
"""

STRICTER = """The last two kinds of rows are stricter than the rule: the prior is averaged in the frame of the lungs'
bounding box and put back by the *true* lung masks of the film, which no model is given; "zone" is the prior of finding,
side and *true* zone. "Better", "worse": the 95 % interval of the paired difference does not hold 0.
"""

VALIDATION = """## What was tried, on validation patients
All maps of the same true sentences, pointing / AUC; what is negative is cut off, the rest smoothed by .7 patches. The
best of a model (pointing + AUC) is bold; if it is not the one that users see, it is judged on test patients as well.
"Against the opposite": integrated gradients of log p(sentence) - log p(the same sentence with the other side's word;
without a side, denied).
"""

TOLD = """## True sentences, put into the model's mouth
Drafts seldom name what is small, so on {films} other patients with a lung finding that moves, the true sentence was
given ("There is consolidation in the right mid lung."), and its map taken. Findings lie anywhere in their zone here for
all models, also for those that never learned from such films; bodies as in the model's own world.
"""

FRAUDS = """## Frauds, which must fail
The same sentences, with another patient's image, or with connector and memory of random weights; the encoder stays as
it was. And the same sentence with the other side's word: a map that follows the word explains the word, a map that
stays shows where the finding is, whatever the sentence says.
"""

ASKED = """## Findings taken away, and moved to the other side
First films of other patients, findings that are on one side alone. l is the mean log-probability per token; the gap is
what l loses without the finding, beyond what the same change of pixels costs on the mirrored side. "Occluded": the
region filled with the mean and noise of its surroundings instead of a render. A model that always writes the same side
has a swap rate of 0; one that follows the finding, of 1.
"""

READING = """## How to read this
- Pointing counts the single brightest cell; AUC all cells; CNR how far the inside stands above the outside. Prior
  masks are smooth and wide, so they win in CNR and, on films where all bodies lie alike, in AUC and mIoU.
- Only true sentences are judged. A map of a false sentence shows what made the model write it, and no mask can say.
- The encoder was made from phantoms with patch-level truth, so its patches are local; that helps every map here.
- Phantoms whose bodies or findings move are a test of maps, not a more real population.
- Films here are square renders; those of a data set are also cropped and padded.
- The test was enlarged once after its first results: the first films of 100 patients gave 40 claims where bodies move,
  and no verdict could come of them. Since then every model gets 100 films with a true sentence.
- One training per model: that findings move *and* slots are spread gives the best side words, and that a mild spread
  gives the worst, may be the luck of a training. An earlier design, on films of a data set, had three trainings on
  usual phantoms, all three not validated, and one on moving bodies, validated.
"""

MADE = """{date}, `{command}`. One film per patient. In the test {films} films of which the model writes something
true, or what {reach} times as many patients give; as many films for given sentences; half as many, whatever is written,
in validation, for slots and for films that were changed; a quarter of the test's for frauds. Seeds of films: {seeds};
no model learned from these. Population `independent`, epochs 5/3/3, training seed 0. What is measured is kept part by
part, so a row can name several commits; "-dirty": the code held changes that were not committed."""


def page(figures: Figures) -> str:
    """The whole page in Markdown."""
    models = firsts(figures)
    parts = [
        HEAD,
        wrapped(
            f"Tables and verdicts are written by `{figures['command']} --home DIR --page FILE`, from its figures.\n"
        ),
        "",
        answer(models),
        RULE.format(
            fewest=FEWEST_CLAIMS, cells=RESOLUTION, priors=figures["prior_films"], patients=figures["patients"]
        ),
        *_test(models),
        VALIDATION,
        validation_table(models),
        "",
        "## Slots that read apart",
        slot_table(models),
        "",
        *_told(figures, models),
        FRAUDS,
        fraud_table(models),
        "",
        ASKED,
        asked_table(models),
        "",
        *_trainings(figures),
        cost_text(models["usual"]),
        READING,
        made_with(figures, models),
    ]
    return "\n".join(parts)


def _test(models: dict[str, Figures]) -> list[str]:
    """Everything about the test patients."""
    return [
        "## Test patients",
        rule_table(models),
        f"\n{others_tried(models)}\nHow far the map that users see is above the priors:\n",
        difference_table(models),
        "",
        STRICTER,
        "All maps of the test patients, pointing / AUC / mass ratio / signed CNR / mIoU:\n",
        all_maps_table(models),
        "\nFindings that move alone, map less priors:\n",
        difference_table(spread(models), lambda model: ruled(model)["that_move"]),
        "\nPer finding, pointing of map / class + side prior / prior on the true lungs (claims):\n",
        finding_table(models),
        "",
    ]


def _told(figures: Figures, models: dict[str, Figures]) -> list[str]:
    """Everything about true sentences that were given."""
    parts = [TOLD.format(**figures)]
    for which, title in (("consolidation", "Consolidations and opacities"), ("all", "All lung findings that move")):
        parts += [f"{title}, pointing / AUC:\n", told_table(models, which), "\nDifferences:\n"]
        parts += [difference_table(models, PARTS[f"given, {which}"]), ""]
    return parts


def table(figures: Figures) -> str:
    """What is printed: the verdict on every training."""
    return training_table(figures)


def spread(models: dict[str, Figures]) -> dict[str, Figures]:
    """Models of films whose findings move."""
    return {name: model for name, model in models.items() if model["world"]["finding_spread"]}


def _trainings(figures: Figures) -> Iterable[str]:
    if max(len(seeds) for seeds in figures["models"].values()) > 1:
        yield "## Further trainings\nThe same models trained again, on the same test patients.\n"
        yield training_table(figures)
        yield ""


def cost_text(model: Figures) -> str:
    """Processor time of one model; the others have the same shapes."""
    seconds = model["cost"]["seconds"]
    rows = [[name, number(value)] for name, value in seconds.items()]
    about = wrapped(
        f"Processor seconds per report of {model['cost']['sentences']:.1f} sentences, one core, `tiny`; maps are for"
        " all of its sentences. The integral needs one backward pass per sentence and step through connector and"
        " language model. With a large language model this was not measured."
    )
    return f"## Cost\n{about}\n\n{markdown(['', 'seconds'], rows)}\n"


def made_with(figures: Figures, models: dict[str, Figures]) -> str:
    """Everything that is needed to make it again."""
    seeds = ", ".join(f"{name} {seed}" for name, seed in figures["seeds"].items())
    rows = []
    for model in models.values():
        world = model["world"]
        splits = "/".join(number(share) for share in world["splits"])
        digests = [model["dataset"][:8], model["weights"][:8]]
        commits = [short(model["trained_at"]), ", ".join(dict.fromkeys(map(short, model["measured_at"])))]
        rows.append([model["title"], str(world["seed"]), splits, f"`{world['preset']}`", *digests, *commits])
    heads = ["model", "phantom seed", "splits", "preset", "data set", "weights", "trained at", "measured at"]
    about = {**figures, "seeds": seeds, "reach": REACH}
    return f"## Made with\n{wrapped(MADE.format(**about))}\n\n{markdown(heads, rows)}\n"


def short(commit: str) -> str:
    """Seven digits, and whether there was more than the commit."""
    return commit[:7] + ("-dirty" if commit.endswith("-dirty") else "")
