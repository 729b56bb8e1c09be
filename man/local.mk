# One page for each daemon, command and file; tests/unit/check_man.py compares
# them with the programs.
dist_man_MANS += \
    man/penn-balancerd.8 \
    man/penn-coordinatord.8 \
    man/penn-gatewayd.8 \
    man/penn-storaged.8 \
    man/penncloud-schema.5 \
    man/penncloud.7 \
    man/penncloud.conf.5 \
    man/pennctl.1
EXTRA_DIST += tests/unit/check_man.py
