"""A study's report as a FHIR R4 DiagnosticReport."""

import base64
from typing import Any

import numpy as np

from components.preprocess.phantom.layouts.identity import FAMILY_NAME, given_name
from components.preprocess.phantom.study import PhantomStudy

PRESENTED = 0.7  # of the reports; the others have their text as the conclusion
LOINC = {1: ("36554-4", "XR Chest Single view"), 2: ("36643-5", "XR Chest 2 Views")}


def diagnostic_report(study: PhantomStudy, text: str) -> dict[str, Any]:
    """Return the resource. Its identifier is the accession number, which is the phantom's study id."""
    state = study.state
    code, display = LOINC[len(study.images)]
    resource = {
        "resourceType": "DiagnosticReport",
        "id": f"report-{state.study_id}",
        "meta": {"tag": [_coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST")]},
        "identifier": [
            {
                "type": {"coding": [_coding("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN")]},
                "system": "urn:phantom:accession",
                "value": state.study_id,
            }
        ],
        "status": "final",
        "category": [{"coding": [_coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD")]}],
        "code": {"coding": [{**_coding("http://loinc.org", code), "display": display}], "text": study.procedure},
        "subject": {
            "identifier": {"system": "urn:phantom:patient", "value": state.patient_id},
            "display": f"{given_name(study)} {FAMILY_NAME}",
        },
        "effectiveDateTime": f"{state.taken_at:%Y-%m-%d}",
        "imagingStudy": [
            {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study.images[0].dicom.StudyInstanceUID}"}}
        ],
    }
    if np.random.default_rng([state.study_seed, 44]).random() < PRESENTED:
        data = base64.b64encode(text.encode()).decode()
        return resource | {"presentedForm": [{"contentType": "text/plain", "data": data}]}
    return resource | {"conclusion": text}


def _coding(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": code}
