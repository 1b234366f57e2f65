"""Other words for what the phantom says, to test text tools with: the half of the reserve that no rule is made from.

Never mend a rule because of a sentence here; paraphrased.py is there for that. Markup as in paraphrased.py.
"""

from components.preprocess.phantom.sentences import Wording

_LUNG = "{side}/a>l {zone}/a>l lung/a=l"

HELD_OUT = Wording(
    present={
        "endotracheal_tube": (
            "endotracheal_tube/o@c terminating in standard position above the carina/a=c",
            "there is an ETT/o@t and an enteric_tube/o within the trachea/a=t and esophagus/a",
            "an endotracheal_tube/o overlies the superior mediastinum/a",
            "the patient has been intubated ; the tube/o tip is satisfactory",
        ),
        "central_line": (
            "{side}/a=s jugular/a=v central venous_catheter/o@v tip in the cavoatrial_junction/a",
            "a {side}/a=s picc_line/o@s can be followed to the superior_vena_cava/a",
            "there is a {side}/a=s port-a-cath/o@s over the left heart/a",
            "a dialysis_catheter/o@s enters from the {side}/a=s",
        ),
        "pacemaker": (
            "a {side}/a=s pectoral/a pacemaker/o@s with two leads overlying the heart/a",
            "{side}/a=s ICD/o@s generator with a single lead/o",
            "pacing_device/o@c projecting over the {side}/a>c chest/a=c",
            "{side}/a=s pacemaker/o@s hardware is again in expected position",
        ),
        "consolidation": (
            f"consolidation/o=e@l has developed within the {_LUNG}",
            f"confluent/o>e consolidation/o=e@l centered on the {_LUNG}",
            f"the {_LUNG} demonstrates extensive/o>e consolidation/o=e@l",
            f"a consolidative/o=e@l process affects the {_LUNG}",
        ),
        "opacity": (
            f"faint/o>e opacities/o=e@l are visible in the {_LUNG}",
            f"the {_LUNG} is partly opacified/o=e@l",
            f"a vague/o>e infiltrate/o=e@l overlies the {_LUNG}",
            f"{_LUNG} air-space_disease/o=e@l of limited extent",
        ),
        "edema": (
            "{amount}/o>e edema/o=e@l throughout both lungs/a=l",
            "the appearance is that of {amount}/o>e pulmonary/a=p vascular_congestion/o=e@p",
            "there is {degree}/o>e increased pulmonary/a=p edema/o=e@p",
            "{amount}/o>e pulmonary/a=p interstitial/a>p edema/o=e@p accounts for the haze",
        ),
        "atelectasis": (
            f"subsegmental/o>e atelectasis/o=e@l persists within the {_LUNG}",
            f"streaky/o>e {_LUNG} atelectasis/o=e@l",
            f"the {_LUNG} shows atelectatic/o=e@l bands",
            "there is collapse/o=e@l of part of the {side}/a>l {zone}/a>l lobe/a=l",
        ),
        "nodule": (
            f"a spiculated/o>e mass/o=e@l arises in the {_LUNG}",
            f"the {_LUNG} harbors a small/o>e nodule/o=e@l",
            f"pulmonary/a nodule/o=e@l , rounded/o>e , in the {_LUNG}",
            f"a neoplasm/o=e@l is present in the {_LUNG}",
        ),
        "pleural_effusion": (
            "{side}/a=s effusion/o=e@s is {amount}/o>e",
            "pleural/a>p effusion/o=e@p on the {side}/a=p that is {amount}/o>e in size",
            "a {amount}/o>e amount of {side}/a>p pleural/a=p fluid/o=e@p has accumulated",
            "{amount}/o>e {side}/a>p subpulmonic/a=p effusion/o=e@p is evident",
        ),
        "pneumothorax": (
            "{amount}/o>e pneumothorax/o=e@s is evident along the {side}/a=s chest wall",
            "air in the {side}/a>p pleural/a>p space/a=p , a {amount}/o>e pneumothorax/o=e@p",
            "the {side}/a>p lung/a=p has been displaced by a {amount}/o>e pneumothorax/o=e@p",
            "pneumothorax/o=e@s , {side}/a=s , {amount}/o>e",
        ),
        "pleural_thickening": (
            "pleural/a=p thickening/o=e@p caps the {side}/a>p lung apex/a",
            "chronic/o>e {side}/a>p apical/a>p pleural/a=p thickening/o=e@p",
            "apical/a>p pleuro-parenchymal/a=p scarring/o=e@p on the {side}/a>p",
        ),
        "cardiomegaly": (
            "the heart/a=h appears {degree}/o>e enlarged/o=e@h",
            "cardiac/a>z size/a=z is enlarged/o=e@z to a {amount}/o>e degree",
            "cardiomegaly/o=e is present and {amount}/o>e",
            "{amount}/o>e enlargement/o=e@s of the cardiac/a>s silhouette/a=s",
        ),
        "enlarged_mediastinum": (
            "widening/o=e@s of the mediastinal/a>s silhouette/a=s is evident",
            "the superior/a>m mediastinum/a=m appears wide/o=e@m",
            "enlarged/o=e@s cardiomediastinal/a>s silhouette/a=s",
            "the mediastinum/a=m measures wider/o=e@m than expected",
        ),
        "rib_fracture": (
            "{side}/a>r lateral/a>r rib/a=r fracture/o=e@r with little displacement/o",
            "one {side}/a>r rib/a=r has been fractured/o=e@r",
            "multiple/o>e {side}/a>r rib/a=r fractures/o=e@r",
            "a fracture/o=e@r through a {side}/a>r rib/a=r",
        ),
    },
    uncertain={
        "atelectasis": (
            f"{_LUNG} opacities/o=e@l~q probably reflect atelectasis/u=q | Lung Opacity=1",
            f"there is likely atelectasis/u=e@l in the {_LUNG}",
            f"an infiltrate/o=e@l~q of the {_LUNG} might be atelectasis/u=q or pneumonia/u"
            " | Lung Opacity=1, Pneumonia=-1",
            f"suspect {_LUNG} atelectasis/u=e@l",
        ),
        "pleural_effusion": (
            "question of a small/o>e {side}/a>p pleural/a=p effusion/u=e@p",
            "probable small/o>e {side}/a=s effusion/u=e@s",
            "a {side}/a>p pleural/a=p effusion/u=e@p cannot be ruled out",
        ),
        "pneumothorax": (
            "a lucency/o~e over the {side}/a>a apex/a=a is concerning for pneumothorax/u=e@a",
            "a small {side}/a=s pneumothorax/u=e@s is difficult to exclude",
            "there may be a {side}/a=s pneumothorax/u=e@s",
        ),
        "nodule": (
            f"possible nodule/u=e@l overlying the {_LUNG}",
            f"there is a suspected mass/u=e@l in the {_LUNG}",
        ),
        "edema": ("edema/u=e of mild/o>e degree is possible", "this could reflect mild/o>e edema/u=e"),
        "cardiomegaly": ("probable mild/o>e cardiomegaly/u=e", "suspicion of mild/o>e cardiomegaly/u=e"),
        "rib_fracture": (
            "a {side}/a>r rib/a=r fracture/u=e@r is questioned",
            "deformity/o~e of a {side}/a>r rib/a=r may represent a fracture/u=e@r",
        ),
    },
    pneumonia=(
        " , worrisome for pneumonia/u=q",
        " , most likely representing pneumonia/u=q",
        " , which could be due to an infectious/u=q process",
    ),
    resolved={
        "pleural_effusion": (
            "resolution of the {side}/a>p pleural/a=p effusion/n@p since the prior study",
            "the {side}/a=s effusion/n@s is no longer visible",
        ),
        "pneumothorax": (
            "previous {side}/a=s pneumothorax/n@s has cleared",
            "there has been complete resolution of the {side}/a=s pneumothorax/n@s",
        ),
        "consolidation": (
            f"consolidation/n@l in the {_LUNG} has now resolved",
            f"clearing of the consolidation/n@l in the {_LUNG}",
        ),
        "opacity": (
            f"opacities/n@l in the {_LUNG} have resolved",
            f"the {_LUNG} opacity/n@l seen on the prior study has cleared",
        ),
        "atelectasis": (
            f"atelectasis/n@l in the {_LUNG} has cleared",
            f"resolved/n>e {_LUNG} atelectasis/n=e@l",
        ),
        "edema": ("edema/n seen previously has resolved", "the pulmonary/a=p edema/n@p is no longer present"),
    },
    changes={
        "new": (" , not present/o>e on the prior study", " , a new/o>e finding"),
        "worse": (" , which has progressed/o>e since the previous examination", " , increasing/o>e"),
        "stable": (" , without significant change/o>e", " , no different/o>e from before"),
        "better": (" , smaller/o>e than on the prior film", " , though improved/o>e"),
    },
    normal={
        "lungs": (
            "there is no focal infiltrate/n | Lung Opacity=0",
            "the lungs/a=l remain clear/o@l",
            "no suspicious pulmonary/a=p nodule/n@p is seen | Lung Lesion=0",
            "both lungs/a=l are well aerated/o@l",
        ),
        "consolidation or edema": (
            "no signs of consolidation/n or edema/n",
            "the lungs/a show no consolidation/n and no edema/n",
            "lungs/a without consolidation/n or overt/n>e edema/n=e",
            "there is neither focal/n>c consolidation/n=c nor pulmonary/a=p edema/n@p",
        ),
        "consolidation": (
            "lungs/a free of consolidation/n",
            "there is no lobar/n>c or segmental/n>c consolidation/n=c",
            "no definite/n>c consolidation/n=c",
        ),
        "edema": (
            "no overt/n>e pulmonary/a=p edema/n=e@p",
            "absence of edema/n",
            "there is no evidence of pulmonary/a=p congestion/n@p",
        ),
        "effusion or pneumothorax": (
            "no large/n>e effusion/n=e or pneumothorax/n is appreciated",
            "pleural/a=p effusion/n@p or pneumothorax/n is not seen",
            "pleural/a=p spaces without effusion/n@p or pneumothorax/n",
            "no pneumothorax/n and no pleural/a=p effusion/n@p on either side",
        ),
        "effusion": (
            "there are no pleural/a=p effusions/n@p",
            "no evidence for pleural/a=p effusion/n@p",
            "pleural/a=p effusion/n@p is not identified",
        ),
        "pneumothorax": (
            "pneumothorax/n is not seen",
            "there is no visible/n>p pneumothorax/n=p",
            "without evidence of pneumothorax/n",
        ),
        "heart": (
            "heart/a>z size/a=z is within normal_limits/o@z",
            "the heart/a>z size/a=z is at the upper_limits_of_normal/o@z",
            "unremarkable/o@s cardiac/a>s silhouette/a=s",
            "the cardiac/a>s silhouette/a=s is not enlarged/n@s",
        ),
        "mediastinum": (
            "mediastinal/a>s silhouette/a=s is unremarkable/o@s",
            "the cardiomediastinal/a>s silhouette/a=s is normal/o@s",
            "mediastinum/a=m within normal_limits/o@m",
            "there is no widening/n@m of the mediastinum/a=m",
        ),
        "bones": (
            "no fractures/n are seen",
            "without acute/n>f fracture/n=f",
            "the ribs/a=r show no fracture/n@r",
        ),
    },
    asides=(" with no evidence of {absent}", " ; there is no {absent}", " and no {absent}"),
    distractors=(
        "calcified/o>g granuloma/o=g in the hilum/a | blocker=1",
        "no free_air/n is seen below the diaphragm/a",
        "massive/o gastric/a distension",
        "atherosclerotic/o calcification/o of the aorta/a | blocker=1",
        "the soft_tissues/a are unremarkable",
        "the study is limited by patient rotation",
    ),
)
