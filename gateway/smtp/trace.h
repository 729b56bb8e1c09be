/*
 * The fields put before a message at final delivery (RFC 5321 4.4):
 * Return-Path and Received. Pure.
 */
#ifndef GATEWAY_SMTP_TRACE_H
#define GATEWAY_SMTP_TRACE_H

#include "common/buf.h"

struct smtp_trace {
    const char *sender; /* "" for the null sender */
    const char *helo;
    const char *client;    /* its address: "192.0.2.1", "2001:db8::1" */
    const char *hostname;  /* ours */
    const char *protocol;  /* "ESMTP", "SMTP" */
    const char *id;        /* the queue id */
    const char *recipient; /* this copy's only: others are nobody's business */
    int64_t wall_ms;
};

/* Appends both fields, each line ended by CR LF and below 78 + its longest
 * word. */
void smtp_trace_write(const struct smtp_trace *t, struct buf *out);

#endif
