# Check programs, one a module: unit_<module>.
if HAVE_CHECK
UNIT_LIBS = $(CHECK_LIBS)
endif
