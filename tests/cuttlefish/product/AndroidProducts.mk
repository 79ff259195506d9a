# A Cuttlefish phone with this daemon. Link or check out this folder as device/lmkd_rs/cuttlefish, then:
#   lunch lmkd_rs_cf_x86_64-trunk_staging-userdebug && m && cvd create
PRODUCT_MAKEFILES := $(LOCAL_DIR)/lmkd_rs_cf_x86_64.mk
COMMON_LUNCH_CHOICES := lmkd_rs_cf_x86_64-trunk_staging-userdebug
