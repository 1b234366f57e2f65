"""Other words for what the phantom says, to improve text tools with: the half of the reserve that may be looked at.

The other half is held_out.py. Neither is in the usual reports. Markup as in sentences.py; behind ` | ` stand further
observations that a sentence speaks of, and `blocker=1` for what no observation covers but a normal chest does not have.
"""

from components.preprocess.phantom.sentences import Wording

_LUNG = "{side}/a>l {zone}/a>l lung/a=l"

PARAPHRASED = Wording(
    present={
        "endotracheal_tube": (
            "the tip/o>t of the endotracheal_tube/o=t@c lies above the carina/a=c",
            "ET_tube/o@m projecting over the mediastinum/a=m",
            "the patient is intubated , with the tube/o@t tip in the trachea/a=t",
            "monitoring equipment/o and an endotracheal_tube/o are in place",
        ),
        "central_line": (
            "a {side}/a=s picc_line/o@s terminates in the superior_vena_cava/a",
            "{side}/a=s internal_jugular_catheter/o@s , its tip over the right_atrium/a",
            "a {side}/a=s subclavian/a=v port/o@v is noted",
            "a {side}/a=s picc/o@s projects over the heart/a=h",
        ),
        "pacemaker": (
            "a {side}/a=s sided dual-lead_pacemaker/o@s has its leads over the heart/a",
            "{side}/a=s pacer/o@s with intact leads/o",
            "a {side}/a=s implanted defibrillator/o@s is present",
            "there is a cardiac_device/o@c in the {side}/a>c chest_wall/a=c",
        ),
        "consolidation": (
            f"an area of consolidation/o=e@l occupies the {_LUNG}",
            f"dense/o>e consolidative/o=e@l change of the {_LUNG}",
            "the {zone}/a>l portion of the {side}/a>l lung/a=l is consolidated/o=e@l",
            f"patchy/o>e consolidations/o=e@l involve the {_LUNG}",
        ),
        "opacity": (
            f"there is an ill-defined/o>e infiltrate/o=e@l in the {_LUNG}",
            f"hazy/o>e opacification/o=e@l of the {_LUNG}",
            f"airspace_disease/o=e@l is noted in the {_LUNG}",
            f"subtle/o>e increased_density/o=e@l projects over the {_LUNG}",
        ),
        "edema": (
            "there is {amount}/o>e vascular/a=v congestion/o=e@v",
            "findings consistent with {amount}/o>e interstitial/a=p edema/o=e@p",
            "indistinctness/o=e@v of the pulmonary/a>v vessels/a=v",
            "{amount}/o>e pulmonary/a=p congestion/o=e@p is demonstrated",
        ),
        "atelectasis": (
            f"plate-like/o>e atelectasis/o=e@l is present in the {_LUNG}",
            f"atelectatic/o=e@l changes in the {_LUNG}",
            "partial/o>e collapse/o=e@l of the {side}/a>l {zone}/a>l lobe/a=l",
            f"bandlike/o>e atelectasis/o=e@l crosses the {_LUNG}",
        ),
        "nodule": (
            f"a solitary/o>e mass/o=e@l projects over the {_LUNG}",
            f"nodular/o>e density/o=e@l in the {_LUNG}",
            f"a cavitary/o>e lesion/o=e@l lies in the {_LUNG}",
            f"a well-circumscribed/o>e pulmonary/a nodule/o=e@l is identified in the {_LUNG}",
        ),
        "pleural_effusion": (
            "there is a {amount}/o>e {side}/a>p pleural/a=p fluid/o=e@p collection",
            "layering/o>e {side}/a>p pleural/a=p effusion/o=e@p of {amount}/o>e size",
            "the {side}/a>p pleural/a>p space/a=p contains a {amount}/o>e effusion/o=e@p",
            "an effusion/o=e@s , {amount}/o>e in size , has formed on the {side}/a=s",
        ),
        "pneumothorax": (
            "a {amount}/o>e apical/a>s pneumothorax/o=e@s lies on the {side}/a=s",
            "{side}/a=s sided pneumothorax/o=e@s of {amount}/o>e size",
            "a visible pleural_line/o indicates a {amount}/o>e {side}/a=s pneumothorax/o=e@s",
            "the {side}/a>h hemithorax/a=h shows a {amount}/o>e pneumothorax/o=e@h",
        ),
        "pleural_thickening": (
            "there is {side}/a>p apical/a>p pleural/a=p scarring/o=e@p",
            "thickening/o=e@p of the {side}/a>p apical/a>p pleura/a=p",
            "there is a {side}/a>p apical/a=p fibrothorax/o=e@p",
            "old/o>e pleural/a=p thickening/o=e@p at the {side}/a>p apex/a",
        ),
        "cardiomegaly": (
            "the cardiac/a>s silhouette/a=s is {degree}/o>e enlarged/o=e@s",
            "{amount}/o>e cardiac/a=c enlargement/o=e@c",
            "there is a {degree}/o>e enlarged/o=e@h heart/a=h",
            "heart/a>z size/a=z is {degree}/o>e increased/o=e@z",
        ),
        "enlarged_mediastinum": (
            "the mediastinal/a>s silhouette/a=s is enlarged/o=e@s",
            "mediastinal/a=m widening/o=e@m",
            "the cardiomediastinal/a>s silhouette/a=s is widened/o=e@s",
            "there is an abnormally wide/o=e@m mediastinum/a=m",
        ),
        "rib_fracture": (
            "there is a fracture/o=e@r of a {side}/a>r rib/a=r",
            "fractured/o=e@r {side}/a>r rib/a=r",
            "healing/o>e {side}/a>r rib/a=r fractures/o=e@r are noted",
            "a {side}/a>r rib/a=r shows a fracture/o=e@r line",
        ),
    },
    uncertain={
        "atelectasis": (
            f"opacity/o=e@l~q in the {_LUNG} , which could represent atelectasis/u=q | Lung Opacity=1",
            f"probable {_LUNG} atelectasis/u=e@l",
            f"{_LUNG} opacity/o=e@l~q , atelectasis/u=q versus pneumonia/u | Lung Opacity=1, Pneumonia=-1",
            f"atelectasis/u=e@l in the {_LUNG} cannot be excluded",
        ),
        "pleural_effusion": (
            "a questionable {side}/a>p pleural/a=p effusion/u=e@p",
            "a {side}/a>p pleural/a=p effusion/u=e@p is suspected",
            "blunting/o~e of the {side}/a>a costophrenic/a>a angle/a=a is suspicious for an effusion/u=e@a",
        ),
        "pneumothorax": (
            "cannot rule out a {side}/a=s pneumothorax/u=e@s",
            "possible tiny/o>e {side}/a=s pneumothorax/u=e@s",
            "a {side}/a=s pneumothorax/u=e@s is not excluded",
        ),
        "nodule": (
            f"a questionable nodule/u=e@l projects over the {_LUNG}",
            f"a nodule/u=e@l in the {_LUNG} is possible",
        ),
        "edema": (
            "findings may indicate mild/o>e pulmonary/a=p edema/u=e@p",
            "presumably mild/o>e pulmonary/a=p edema/u=e@p",
        ),
        "cardiomegaly": ("possible mild/o>e cardiomegaly/u=e", "mild/o>e cardiomegaly/u=e is suspected"),
        "rib_fracture": (
            "suspected {side}/a>r rib/a=r fracture/u=e@r",
            "an irregularity/o~e of a {side}/a>r rib/a=r is worrisome for fracture/u=e@r",
        ),
    },
    pneumonia=(
        " , concerning for pneumonia/u=q",
        " , suspicious for infection/u=q",
        " ; pneumonia/u=q cannot be excluded",
    ),
    resolved={
        "pleural_effusion": (
            "the previously noted {side}/a>p pleural/a=p effusion/n@p has cleared",
            "interval resolution of the {side}/a>p pleural/a=p effusion/n@p",
        ),
        "pneumothorax": (
            "the {side}/a=s pneumothorax/n@s is no longer seen",
            "the {side}/a=s pneumothorax/n@s has completely resolved",
        ),
        "consolidation": (
            f"the {_LUNG} consolidation/n@l has cleared",
            f"previously seen {_LUNG} consolidation/n@l is no longer present",
        ),
        "opacity": (f"the {_LUNG} opacity/n@l has cleared", f"previously seen {_LUNG} opacity/n@l has resolved"),
        "atelectasis": (
            f"the {_LUNG} atelectasis/n@l has since resolved",
            f"there is no longer {_LUNG} atelectasis/n@l",
        ),
        "edema": ("pulmonary/a=p edema/n@p has cleared", "interval resolution of pulmonary/a=p edema/n@p"),
    },
    changes={
        "new": (" , new/o>e since the prior study", " , newly/o>e developed"),
        "worse": (" , larger/o>e than on the previous film", " , worse/o>e compared with the prior study"),
        "stable": (" , not significantly changed/o>e", " , similar/o>e to prior"),
        "better": (" , less conspicuous/o>e than before", " , partially improved/o>e in the interval"),
    },
    normal={
        "lungs": (
            "the lungs/a=l are free/o@l of infiltrate/n | Lung Opacity=0",
            "lungs/a=l clear/o@l bilaterally",
            "no nodule/n or mass/n is identified | Lung Lesion=0",
            "the lungs/a=l are clear/o@l of airspace_disease/n | Lung Opacity=0",
        ),
        "consolidation or edema": (
            "neither consolidation/n nor edema/n is present",
            "negative for consolidation/n or pulmonary/a=p edema/n@p",
            "there is no evidence of focal/n>c consolidation/n=c or frank/n>e edema/n=e",
            "consolidation/n and edema/n are absent",
        ),
        "consolidation": (
            "no evidence of consolidation/n",
            "negative for lobar/n>c consolidation/n=c",
            "consolidation/n is absent",
        ),
        "edema": ("no vascular/a=v congestion/n@v", "negative for edema/n", "no sign of interstitial/a=p edema/n@p"),
        "effusion or pneumothorax": (
            "there is no evidence of pleural/a=p effusion/n@p or of pneumothorax/n",
            "negative for effusion/n and pneumothorax/n",
            "no effusions/n , and no pneumothorax/n",
            "neither effusion/n nor pneumothorax/n is identified",
        ),
        "effusion": ("no pleural/a=p fluid/n@p", "without pleural/a=p effusion/n@p", "pleural/a=p effusion/n@p absent"),
        "pneumothorax": (
            "no evidence of a pneumothorax/n",
            "negative for pneumothorax/n",
            "no pneumothoraces/n are identified",
        ),
        "heart": (
            "the heart/a=h is normal/o@h in size",
            "cardiac/a>s silhouette/a=s within normal_limits/o@s",
            "the heart/a=h is not enlarged/n@h",
            "no cardiomegaly/n",
        ),
        "mediastinum": (
            "the cardiomediastinal/a>s silhouette/a=s is within normal_limits/o@s",
            "unremarkable/o@m mediastinum/a=m",
            "the mediastinum/a=m is not widened/n@m",
            "no mediastinal/a=m widening/n@m",
        ),
        "bones": (
            "no evidence of fracture/n",
            "negative for acute/n>f fracture/n=f",
            "no rib/a=r fractures/n@r are identified",
        ),
    },
    asides=(" without {absent}", " , but no {absent}"),
    distractors=(
        "degenerative/o>c changes/o=c are present in the thoracic_spine/a | blocker=1",
        "the trachea/a is midline",
        "no pericardial/a=p effusion/n@p",
        "there is scoliosis/o of the spine/a | blocker=1",
        "the visualized upper_abdomen/a is unremarkable",
        "the patient is rotated",
    ),
)
