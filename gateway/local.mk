noinst_LIBRARIES += libgateway.a
libgateway_a_SOURCES =
include gateway/smtp/local.mk
