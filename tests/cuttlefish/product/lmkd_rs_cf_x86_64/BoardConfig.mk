include device/google/cuttlefish/vsoc_x86_64_only/BoardConfig.mk

# The one label of this daemon. Name the folder that this repository is checked out in.
LMKD_RS_PATH ?= external/lmkd_rs
SYSTEM_EXT_PRIVATE_SEPOLICY_DIRS += $(LMKD_RS_PATH)/sepolicy/private
