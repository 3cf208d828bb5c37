"""What people come for: comparisons of densities, imputations, classifications and representations."""

from probgen.studies.classification import ClassificationStudy, classification_study
from probgen.studies.density import DensityStudy, density_study
from probgen.studies.filled_cells import FillStudy, fill_study
from probgen.studies.main_study import Study, study
from probgen.studies.paired import Paired, paired
from probgen.studies.representation import RepresentationStudy, representation_study
from probgen.studies.selection import Selection, select

__all__ = [
    "ClassificationStudy",
    "DensityStudy",
    "FillStudy",
    "Paired",
    "RepresentationStudy",
    "Selection",
    "Study",
    "classification_study",
    "density_study",
    "fill_study",
    "paired",
    "representation_study",
    "select",
    "study",
]
