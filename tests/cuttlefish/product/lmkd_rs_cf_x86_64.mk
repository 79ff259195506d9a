$(call inherit-product, device/google/cuttlefish/vsoc_x86_64_only/phone/aosp_cf.mk)

PRODUCT_NAME := lmkd_rs_cf_x86_64
PRODUCT_DEVICE := lmkd_rs_cf_x86_64
PRODUCT_PACKAGES += lmkd_rs_packages
PRODUCT_ARTIFACT_PATH_REQUIREMENT_ALLOWED_LIST += \
    system/bin/lmkctl \
    system/bin/lmkd_rs \
    system/etc/init/lmkd_rs.rc
