/*
 * Every limit of the system in one place, with the relations between them
 * asserted. Sizes are bytes unless the name says otherwise.
 */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

#include <stdint.h>

#define KIB(n) ((n)*1024u)
#define MIB(n) ((n)*1024u * 1024u)

/* The store's model. */
#define LIMIT_KEY_PART KIB(1)          /* partition, row, column: each */
#define LIMIT_VALUE (MIB(4) + KIB(64)) /* one cell's value */
#define LIMIT_VALUE_INLINE KIB(1)      /* larger ones leave memory ... */
#define LIMIT_VALUE_LOGGED KIB(16)     /* ... and these leave the log, too */
#define LIMIT_BATCH MIB(8)             /* an encoded command */
#define LIMIT_BATCH_MUTATIONS 4096     /* mutations plus conditions each */
#define LIMIT_SCAN_PAGE MIB(1)         /* bytes of cells in one page ... */
#define LIMIT_SCAN_CELLS 1000          /* ... and their number */
#define LIMIT_DELETE_PREFIX 1000       /* cells one delete-prefix takes */
#define LIMIT_FREEING KIB(16)          /* a command that is taken to free ... */
#define LIMIT_FREEING_VALUES KIB(1)    /* ... and the values that it puts */
#define LIMIT_RESULT 256               /* an encoded stored result */
#define LIMIT_RESULT_VALUES 24         /* counter values in one result */

/* Wire. */
#define LIMIT_FRAME MIB(9)           /* payload of one frame */
#define LIMIT_SEALED KIB(64)         /* one sealed record, tag included */
#define LIMIT_CONN_QUEUE MIB(64)     /* unsent bytes before a peer is cut */
#define LIMIT_CONNS 4096             /* RPC connections of one process */
#define LIMIT_CONN_REQUESTS 1024     /* under way on one connection */
#define LIMIT_READS_BYTES MIB(64)    /* values on their way from the disk */
#define LIMIT_READS_QUEUE MIB(16)    /* unsent: no more are read for that one */
#define LIMIT_FORWARDS 256           /* reads that a secondary sent on (R9) */
#define LIMIT_CONNS_UNPROVEN 1024    /* incoming, before the hello: all ... */
#define LIMIT_CONNS_UNPROVEN_ONE 256 /* ... and from one address */
#define LIMIT_CONNECT_MS 2000        /* resolving and connecting */
#define LIMIT_HANDSHAKE_MS 5000      /* from there to the hello */

/* Cluster. */
#define LIMIT_NODES 64 /* processes of all roles */
#define LIMIT_TABLETS 4096
/* One each millisecond for 34 years. Nothing could follow the last one. */
#define LIMIT_EPOCH (UINT64_C(1) << 40)
#define LIMIT_STORES 256         /* stores a coordinator remembers (R5) */
#define LIMIT_REGISTER MIB(16)   /* one value of a coordinator's register */
#define LIMIT_HELD_ANSWERS 4096  /* of a coordinator, until durable */
#define LIMIT_WATCH_QUEUE MIB(1) /* unsent: no further map until it is less */
#define LIMIT_REPLICAS 8         /* members and learners of a tablet */
#define LIMIT_ADDRESS 128
#define LIMIT_NAME 64
#define LIMIT_SERVICES 8        /* addresses one node announces */
#define LIMIT_RUNS 256          /* name runs in one TAIL message */
#define LIMIT_BLOB_PIECE MIB(1) /* of a blob in one message (R6) */
#define LIMIT_BLOB_REFS 1024    /* blobs that one entry refers to */
#define LIMIT_REPAIRS 64        /* damaged values of a tablet (R16) */

/* Clients (R23). */
#define LIMIT_CLIENTS 4096        /* sessions a tablet keeps */
#define LIMIT_CLIENT_WINDOW 256   /* open numbers of one session */
#define LIMIT_CLIENT_OPS 65536    /* operations under way in one process */
#define LIMIT_CLIENT_TABLE MIB(8) /* a tablet's encoded client table */

/* Log and configuration. */
#define LIMIT_LOG_LINE KIB(4) /* at most PIPE_BUF: lines never mix */
#define LIMIT_LOG_VALUE 200   /* bytes of a quoted value before it is cut */
#define LIMIT_CONFIG_FILE KIB(256)
#define LIMIT_CONFIG_LINE KIB(4)
#define LIMIT_CONFIG_LIST 64     /* items of one list */
#define LIMIT_CONFIG_OPTIONS 128 /* of one section */

/* Status server. */
#define LIMIT_STATUS_CONNS 32
#define LIMIT_STATUS_BODY MIB(4)
#define LIMIT_METRICS 256 /* rows of a daemon's table */

/* Descriptors that a daemon asks for if it may. */
#define LIMIT_DESCRIPTORS 65536

/* A daemon told to stop has this long (milliseconds). */
#define LIMIT_STOP_MS 10000

/* Balancer. */
#define LIMIT_BALANCER_CONNS 65536    /* clients, all services */
#define LIMIT_BALANCER_BUFFER KIB(64) /* one read */
#define LIMIT_BALANCER_QUEUE KIB(256) /* unsent before reading stops */
#define LIMIT_PROXY2 (16 + 36)        /* a header we send */
#define LIMIT_PROXY2_READ (16 + 2048) /* a header we accept */

/* Mail and accounts. */
#define LIMIT_MESSAGE MIB(25)            /* SIZE we announce (RFC 1870) */
#define LIMIT_MESSAGE_INLINE KIB(16)     /* body cell; larger: chunks */
#define LIMIT_CHUNK MIB(4)               /* one chunk of mail or file */
#define LIMIT_MESSAGE_BODY MIB(1)        /* a text body as shown */
#define LIMIT_MESSAGE_HEADER KIB(256)    /* header section that is looked at */
#define LIMIT_MESSAGE_FIELD KIB(64)      /* one unfolded header field */
#define LIMIT_MIME_DEPTH 50              /* nesting of parts */
#define LIMIT_MIME_PARTS 1000            /* leaves and containers */
#define LIMIT_MIME_PARAMETERS MIB(2)     /* of all parts' types, parsed */
#define LIMIT_MIME_HOPS 100              /* Received fields (RFC 5321 6.3) */
#define LIMIT_QUOTA_DEFAULT (10ll << 30) /* bytes of a new account */
#define LIMIT_FOLDERS 500                /* of one mailbox */
#define LIMIT_LIST 200                   /* entries of one list page */

/* SMTP sessions (RFC 5321 4.5.3). */
#define LIMIT_SMTP_COMMAND 512     /* command line with CRLF */
#define LIMIT_SMTP_TEXT_LINE 1000  /* line of a message with CRLF */
#define LIMIT_SMTP_RECIPIENTS 100  /* of one transaction */
#define LIMIT_SMTP_BAD_COMMANDS 20 /* then the session ends */
#define LIMIT_SMTP_COMMANDS 1000   /* without a message stored */

/* HTTP. */
#define LIMIT_HTTP_CONNS 8192       /* of one gateway */
#define LIMIT_HTTP_ADDRESS 256      /* of them from one address */
#define LIMIT_HTTP_HEAD KIB(32)     /* request line and headers */
#define LIMIT_HTTP_TARGET KIB(4)    /* of these: path and query */
#define LIMIT_HTTP_COMPOSE MIB(27)  /* JSON of a mail with attachments */
#define LIMIT_HTTP_BODIES MIB(256)  /* all request bodies in memory */
#define LIMIT_HTTP_ANSWERS MIB(256) /* messages being read or answered */
#define LIMIT_HTTP_DROP KIB(64)     /* a refused body that is still read */
#define LIMIT_HTTP_QUEUE 256        /* requests that wait for a worker */
#define LIMIT_HTTP_WATCHES 64       /* accounts with event streams */
#define LIMIT_HTTP_USER_STREAMS 16  /* event streams of one account */
#define LIMIT_HTTP_FILE MIB(4)      /* one file of the web interface */

_Static_assert(LIMIT_HTTP_TARGET < LIMIT_HTTP_HEAD, "a target is in a head");
_Static_assert(LIMIT_MESSAGE < LIMIT_HTTP_COMPOSE,
               "the largest mail can be written");
_Static_assert(LIMIT_CHUNK < LIMIT_VALUE, "a chunk fits a cell");
_Static_assert(LIMIT_MESSAGE_INLINE < LIMIT_CHUNK, "small is below large");
_Static_assert(LIMIT_LIST < LIMIT_SCAN_CELLS, "a list page is one scan page");

_Static_assert(LIMIT_VALUE_INLINE < LIMIT_VALUE_LOGGED &&
                   LIMIT_VALUE_LOGGED < LIMIT_VALUE,
               "each kind of value has its sizes");
_Static_assert(LIMIT_VALUE + 3 * LIMIT_KEY_PART < LIMIT_BATCH,
               "a batch holds the largest cell");
_Static_assert(LIMIT_BATCH + KIB(64) < LIMIT_FRAME,
               "a frame holds the largest batch with its envelope");
_Static_assert(LIMIT_SCAN_PAGE + LIMIT_VALUE + 3 * LIMIT_KEY_PART < LIMIT_FRAME,
               "a frame holds a page that ends with the largest cell");
_Static_assert(LIMIT_CLIENT_TABLE + KIB(64) < LIMIT_FRAME,
               "a frame holds a tablet's client table");
_Static_assert(LIMIT_SEALED < LIMIT_FRAME, "a frame spans sealed records");
_Static_assert(LIMIT_FRAME < LIMIT_CONN_QUEUE, "a frame can be queued");
_Static_assert(LIMIT_FORWARDS < LIMIT_CONN_REQUESTS,
               "one link takes all that is sent on");
_Static_assert((LIMIT_FORWARDS & (LIMIT_FORWARDS - 1)) == 0,
               "their numbers give their places");
_Static_assert(LIMIT_LOG_LINE <= 4096, "PIPE_BUF");
_Static_assert(4 * LIMIT_LOG_VALUE + 128 < LIMIT_LOG_LINE,
               "a line holds the longest quoted value");
_Static_assert(LIMIT_BALANCER_BUFFER < LIMIT_BALANCER_QUEUE,
               "a read can be queued");

#endif
