"""An invented identity for each phantom patient, written where a hospital's files have one, to be taken out again.

All names say that they are phantoms; there are no such people, places or devices.
"""

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from components.preprocess.phantom.study import PhantomStudy

GIVEN_NAMES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon", "Zeta", "Eta", "Theta", "Iota", "Kappa", "Lambda", "Omega")
FAMILY_NAME = "Phantom"
HOSPITAL = "Phantom General Hospital"
PRIVATE_GROUP, PRIVATE_CREATOR = 0x0019, "PHANTOM VENDOR 1.0"
NAMED_REPORTS = 0.3


def given_name(study: PhantomStudy) -> str:
    return GIVEN_NAMES[study.state.patient_seed % len(GIVEN_NAMES)]


def identify(dicom: FileDataset, study: PhantomStudy) -> None:
    """Write person, staff, place and device into the object. The accession number is the phantom's study id."""
    state, name = study.state, f"{FAMILY_NAME}^{given_name(study)}"
    rng = np.random.default_rng([state.patient_seed, 42])
    age = int(rng.integers(20, 90))
    dicom.PatientName, dicom.OtherPatientIDs = name, f"MRN-{state.patient_id}"
    dicom.PatientBirthDate = f"{state.taken_at.year - age}{int(rng.integers(1, 13)):02d}{int(rng.integers(1, 29)):02d}"
    dicom.PatientSex, dicom.PatientAge = str(rng.choice(["F", "M"])), f"{age:03d}Y"
    dicom.PatientAddress, dicom.PatientTelephoneNumbers = "1 Phantom Lane", "000-0000"
    dicom.PatientComments = f"SYNTHETIC; {name.replace('^', ' ')} does not exist"
    dicom.AccessionNumber = state.study_id
    dicom.ReferringPhysicianName = f"{FAMILY_NAME}^Doctor"
    dicom.PerformingPhysicianName = dicom.NameOfPhysiciansReadingStudy = f"{FAMILY_NAME}^Reader"
    dicom.OperatorsName = f"{FAMILY_NAME}^Operator"
    dicom.InstitutionName, dicom.InstitutionAddress = HOSPITAL, "2 Phantom Lane"
    dicom.InstitutionalDepartmentName, dicom.StationName = "Radiology", "PHANTOM-XR-1"
    dicom.DeviceSerialNumber = "PHANTOM-0001"
    dicom.RequestAttributesSequence = Sequence([_request(study)])
    dicom.PatientIdentityRemoved = "NO"
    del dicom.DeidentificationMethod
    block = dicom.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", name)
    block.add_new(0x02, "SH", state.patient_id)


def _request(study: PhantomStudy) -> Dataset:
    request = Dataset()
    request.RequestedProcedureID = request.ScheduledProcedureStepID = f"RP{study.state.study_id}"
    request.RequestedProcedureDescription = study.procedure
    request.RequestingPhysician = f"{FAMILY_NAME}^Doctor"
    return request


def report_text(study: PhantomStudy) -> str:
    """The report as a hospital has it: now and then with names of patient and physician, in a section behind all."""
    text = study.report.full_text
    if np.random.default_rng([study.state.study_seed, 43]).random() >= NAMED_REPORTS:
        return text
    who = f"{given_name(study)} {FAMILY_NAME}"
    return f"{text} \n NOTIFICATION:  Findings of {who} were discussed with Dr. {FAMILY_NAME}.\n"
