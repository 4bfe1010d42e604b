"""Names of all target models, for readers that must not import torch (DAGs, listings).

Each model is one file of msr_models/models; a test compares this list with what those files register.
"""

MODELS = (
    "adasparse",
    "adin",
    "aesm2",
    "autoint",
    "base_dnn",
    "dcn",
    "dcn_v2",
    "deepfm",
    "dffm",
    "epnet",
    "finetune",
    "hamur",
    "hinet",
    "hmoe",
    "logistic_regression",
    "m2m",
    "m3oe",
    "maria",
    "mlora",
    "mmoe",
    "optmsm",
    "optmsm_cgc",
    "optmsm_moe",
    "pepnet",
    "ple",
    "ppnet",
    "sar_net",
    "sfpnet",
    "shared_bottom",
    "single_task",
    "star",
)

# The baseline that is trained daily beside the target models unless training.floor is false
FLOOR = "logistic_regression"
