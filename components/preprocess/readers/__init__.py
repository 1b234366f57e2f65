"""One reader per layout: mimic_cxr, iu_xray, annotation_json, dicom_folder, dicom_web. All are a `source.Source`."""
