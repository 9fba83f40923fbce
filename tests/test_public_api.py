"""The names that users import: taking one away, or moving it, fails here."""

import importlib
import inspect

import pytest

PUBLIC = {
    "fastmlp": ["Checkpoint", "InputScaleWarning", "MLPClassifier", "MLPEnsemble", "MLPRegressor",
                "ProgressBar", "__version__", "fit_many", "load", "save"],
    "fastmlp.accel": ["ESTIMATORS", "SKLEARN_ESTIMATORS", "patch_sklearn", "unpatch_sklearn"],
    "fastmlp.augment": ["Augmentation", "Compose", "ElasticDistortion", "RandomAffine",
                        "RandomDeskew", "RandomFlip", "RandomNoise", "RandomThickness"],
    "fastmlp.bench": ["CASES", "SIZES", "SUITES", "UNITS", "Case", "Contender", "Contest", "Job",
                      "check_plot", "compare", "document", "in_words", "job_of", "machine",
                      "measure", "passed", "plot", "ratios", "select", "summary"],
    "fastmlp.datasets": ["DATASETS", "Dataset", "DatasetError", "FILE_NAMES", "SpoiledFileError",
                         "class_column", "data_home_path", "fetch", "find_idx_directories",
                         "find_idx_files", "has_class_column", "image_shape", "label_columns",
                         "load", "load_digits", "load_fashion_mnist", "load_idx_directory",
                         "load_idx_pair", "load_kmnist", "load_mnist"],
    "fastmlp.displays": ["ConfusionDisplay", "DigitDisplay", "LossCurveDisplay", "MistakesDisplay",
                         "SearchDisplay", "WeightsDisplay", "as_images", "check_matplotlib",
                         "count_confusions", "kept_epoch"],
    "fastmlp.estimators": ["InputScaleWarning", "MLPClassifier", "MLPEnsemble", "MLPRegressor"],
    "fastmlp.exceptions": ["CheckpointWarning", "ConstantFeatureWarning", "FastMLPWarning",
                           "IneffectiveParameterWarning", "InputScaleWarning", "InterruptedWarning",
                           "LatePatchWarning",
                           "ModelFileWarning", "NegativeWeightWarning", "OneHotLabelsWarning",
                           "SlowBackendWarning", "TableWarning", "TargetScaleWarning",
                           "WarmStartWarning"],
    "fastmlp.cards": ["card", "record", "to_markdown"],
    "fastmlp.idx": ["IDXError", "IDXInfo", "info", "read", "write"],
    "fastmlp.images": ["ImageFolder", "Pictures", "UnreadableFileWarning", "check_destination",
                       "find_parts", "find_pictures", "is_picture", "labels_from_text",
                       "load_folder", "read_pictures", "save_folder", "square_shape"],
    "fastmlp.persistence": ["ModelFileError", "is_model_file", "load", "save"],
    "fastmlp.recipes": ["DEFAULT", "PICTURES", "RECIPES", "TABLE", "TABLE_DESCRIPTION", "Recipe",
                        "get"],
    "fastmlp.report": ["write_report"],
    "fastmlp.tables": ["Column", "ColumnsOfDtype", "RobustSmoothScaler", "TableColumns",
                       "TableOneHotEncoder", "describe", "find_target", "find_task",
                       "make_table_pipeline", "read_table", "take_target"],
    "fastmlp.mlflow": ["EpochLogger", "log_model"],
    "fastmlp.optuna": ["PruningCallback"],
    "fastmlp.training": ["Fit", "Observer", "Outcome", "observing"],
}  # fmt: skip

#: scikit-learn's, and those that follow them.
PARAMETERS = [
    "hidden_layer_sizes", "activation", "solver", "alpha", "batch_size", "learning_rate",
    "learning_rate_init", "power_t", "max_iter", "shuffle", "random_state", "tol", "verbose",
    "warm_start", "momentum", "nesterovs_momentum", "early_stopping", "validation_fraction",
    "beta_1", "beta_2", "epsilon", "n_iter_no_change", "max_fun", "backend", "n_threads", "dtype",
    "input_scale", "lr_schedule", "dropout", "augment", "weight_decay", "max_grad_norm", "loss",
]  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module):
    loaded = importlib.import_module(module)
    for name in PUBLIC[module]:
        assert getattr(loaded, name) is not None
    if hasattr(loaded, "__all__"):
        assert set(PUBLIC[module]) <= set(loaded.__all__)


@pytest.mark.parametrize(
    ("name", "others"),
    [("MLPClassifier", ["label_smoothing", "class_weight"]), ("MLPRegressor", ["target_scale"])],
)
def test_parameters(name, others):
    cls = getattr(importlib.import_module("fastmlp"), name)
    assert sorted(inspect.signature(cls).parameters) == sorted([*PARAMETERS, *others])
    assert cls.__module__ == "fastmlp.estimators"
