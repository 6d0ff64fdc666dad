/* The load for measuring a gateway: many streams at once, each token of each checked.
 *
 *   gateway_load PORT MODEL STREAMS TOKENS RATE REPEAT SLOW LEAVE [BURST]
 *
 * Opens STREAMS connections and asks each for REPEAT answers of TOKENS numbered tokens, RATE a second
 * (0: as fast as they come), one after the other. The first SLOW of them ask for a flood and do not
 * read it; the next LEAVE are closed at their first token. Prints what it saw as JSON; `model` is asked as given,
 * with its last digit counted up over six models where it is one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 65536
#define READ_BYTES 262144
#define MOST_DELAYS 4000000

struct stream {
    int fd, ended, slow, leaving, head_done, status, chunked, to_go_known, done_seen, broken;
    long place, next, repeat, wrong, to_go; /* to_go: bytes left of a chunk, or of a whole body */
    int64_t asked_us, first_us, last_us, left_us;
    size_t line_used, head_used;
    char line[LINE_BYTES], head[8192];
};

static struct sockaddr_in address;
static const char *model;
static long tokens, burst, repeat, total, wrong, running, bad_status, cut;
static double rate;
static int epoll_fd, *firsts, *delays;
static long firsts_used, delays_used;
static char first_error[400];
static int64_t first_start, last_token;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void ask(struct stream *s) {
    char body[512], head[1024];
    char name[128];
    snprintf(name, sizeof name, "%s", model);
    size_t end = strlen(name) - 1;
    if (name[end] == '0') name[end] = (char)('0' + s->place % 6);
    int size = snprintf(body, sizeof body,
        "{\"model\":\"%s\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":"
        "\"tokens=%ld rate=%g burst=%ld\"}]}", name, s->slow ? 1000000 : tokens,
        s->slow ? 0 : rate, s->slow ? 64 : burst);
    int used = snprintf(head, sizeof head,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Authorization: Bearer sk-none\r\nContent-Length: %d\r\n\r\n%s", size, body);
    s->head_done = s->chunked = s->to_go_known = s->done_seen = 0;
    s->to_go = 0, s->next = 0, s->line_used = s->head_used = 0;
    s->first_us = 0, s->asked_us = now_us();
    if (send(s->fd, head, (size_t)used, MSG_NOSIGNAL) != used) s->broken = 1;
}

static void close_stream(struct stream *s) {
    if (s->ended) return;
    if (s->next < tokens && !s->slow && !s->leaving) cut++;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    s->ended = 1, running--;
}

static void answer_over(struct stream *s) {
    if (s->status != 200 && s->line_used && !first_error[0])
        snprintf(first_error, sizeof first_error, "%.*s", (int)(s->line_used < 300 ? s->line_used : 300), s->line);
    if (s->next != tokens || s->status != 200) cut += 1, s->next = tokens;
    if (++s->repeat < repeat) ask(s);
    else close_stream(s);
}

static void take_line(struct stream *s, const char *line, size_t size, int64_t now) {
    if (size < 6 || memcmp(line, "data:", 5)) {
        if (s->status != 200 && !first_error[0]) snprintf(first_error, sizeof first_error, "%.*s", (int)(size < 300 ? size : 300), line);
        return;
    }
    if (memmem(line, size, "[DONE]", 6)) { s->done_seen = 1; return; }
    const char *at = memmem(line, size, "\"content\":", 10), *end = line + size;
    if (!at) {
        if (memmem(line, size, "\"error\"", 7) && !first_error[0]) snprintf(first_error, sizeof first_error, "%.*s", (int)(size < 300 ? size : 300), line);
        return;
    }
    for (at += 10; at < end && *at == ' '; at++) {}
    if (at >= end || *at != '"') return;
    at++;
    while (at < end && *at >= '0' && *at <= '9') {
        char *colon, *after;
        long number = strtol(at, &colon, 10);
        if (*colon != ':') break;
        int64_t made = strtoll(colon + 1, &after, 10);
        if (number != s->next) wrong++;
        s->next = number + 1;
        total++;
        if (!s->first_us) {
            s->first_us = now;
            if (firsts_used < MOST_DELAYS) firsts[firsts_used++] = (int)(now - s->asked_us);
        }
        if (delays_used < MOST_DELAYS) delays[delays_used++] = (int)(now - made);
        at = after;
        while (at < end && *at == ' ') at++;
    }
    last_token = now;
}

static void take_text(struct stream *s, const char *text, size_t size, int64_t now) {
    while (size) {
        const char *end = memchr(text, '\n', size);
        size_t part = end ? (size_t)(end - text) : size;
        if (end && !s->line_used) take_line(s, text, part, now);
        else {
            if (s->line_used + part < LINE_BYTES) memcpy(s->line + s->line_used, text, part), s->line_used += part;
            if (end) take_line(s, s->line, s->line_used, now), s->line_used = 0;
        }
        text += part + (end ? 1 : 0);
        size -= part + (end ? 1 : 0);
    }
}

/* Bytes of the connection: headers, then chunks or a body of known length. */
static void take_bytes(struct stream *s, char *bytes, size_t size, int64_t now) {
    while (size && !s->ended) {
        if (!s->head_done) {
            s->head[s->head_used++] = *bytes++, size--;
            if (s->head_used >= sizeof s->head - 1) { s->broken = 1; return; }
            if (s->head_used < 4 || memcmp(s->head + s->head_used - 4, "\r\n\r\n", 4)) continue;
            s->head[s->head_used] = 0;
            s->head_done = 1;
            s->status = atoi(s->head + 9);
            if (s->status != 200) bad_status++;
            s->chunked = strcasestr(s->head, "transfer-encoding: chunked") != NULL;
            char *length = strcasestr(s->head, "content-length:");
            s->to_go_known = !s->chunked && length != NULL;
            s->to_go = s->to_go_known ? atol(length + 15) : 0;
            s->head_used = 0;
            continue;
        }
        if (s->chunked && !s->to_go) {
            s->head[s->head_used++] = *bytes++, size--;
            if (s->head_used > 64) { s->broken = 1; return; }
            if (s->head_used < 2 || memcmp(s->head + s->head_used - 2, "\r\n", 2)) continue;
            if (s->head_used == 2) { s->head_used = 0; continue; } /* behind a chunk */
            s->head[s->head_used] = 0;
            s->to_go = strtol(s->head, NULL, 16);
            s->head_used = 0;
            if (!s->to_go) { s->to_go = -2; }
            continue;
        }
        if (s->to_go < 0) { /* the line behind the last chunk */
            bytes++, size--;
            if (++s->to_go == 0) { s->head_used = 0; answer_over(s); }
            continue;
        }
        size_t part = size;
        if ((s->chunked || s->to_go_known) && (size_t)s->to_go < part) part = (size_t)s->to_go;
        take_text(s, bytes, part, now);
        bytes += part, size -= part;
        if (s->chunked || s->to_go_known) s->to_go -= (long)part;
        if (s->to_go_known && !s->to_go) answer_over(s);
        if (s->leaving && s->first_us && !s->ended) { s->left_us = now_us(); close_stream(s); }
    }
}

static int by_size(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static double at_share(int *values, long used, double share) {
    if (!used) return 0;
    return values[(long)(share * (double)(used - 1))];
}

int main(int argc, char **argv) {
    if (argc < 9) return 2;
    address.sin_family = AF_INET, address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    model = argv[2];
    long streams = atol(argv[3]);
    tokens = atol(argv[4]), rate = atof(argv[5]), repeat = atol(argv[6]);
    long slow = atol(argv[7]), leave = atol(argv[8]);
    burst = argc > 9 ? atol(argv[9]) : 1;
    signal(SIGPIPE, SIG_IGN);
    firsts = malloc(MOST_DELAYS * sizeof *firsts), delays = malloc(MOST_DELAYS * sizeof *delays);
    static char bytes[READ_BYTES];
    epoll_fd = epoll_create1(0);
    struct stream **all = calloc((size_t)streams, sizeof *all);
    int one = 1;
    for (long i = 0; i < streams; i++) {
        struct stream *s = all[i] = calloc(1, sizeof *s);
        s->place = i, s->slow = i < slow, s->leaving = i >= slow && i < slow + leave;
        s->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(s->fd, (void *)&address, sizeof address)) { perror("connect"); return 1; }
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        if (!s->slow) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &e), running++;
    }
    first_start = last_token = now_us();
    for (long i = 0; i < streams; i++) ask(all[i]);
    struct epoll_event seen[256];
    while (running) {
        int many = epoll_wait(epoll_fd, seen, 256, 60000);
        if (!many) break; /* a minute of silence: what is missing is counted as cut off */
        int64_t now = now_us();
        for (int i = 0; i < many; i++) {
            struct stream *s = seen[i].data.ptr;
            if (s->ended) continue;
            ssize_t got = recv(s->fd, bytes, READ_BYTES, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got > 0) take_bytes(s, bytes, (size_t)got, now);
            if (got <= 0 || s->broken) close_stream(s);
        }
    }
    long unfinished = running;
    double seconds = (double)(last_token - first_start) / 1e6;
    int64_t left = 0;
    for (long i = 0; i < streams; i++) if (all[i]->left_us > left) left = all[i]->left_us;
    qsort(firsts, (size_t)firsts_used, sizeof *firsts, by_size);
    qsort(delays, (size_t)delays_used, sizeof *delays, by_size);
    for (char *at = first_error; *at; at++) if (*at == '"' || *at == '\\' || (unsigned char)*at < 32) *at = '\'';
    printf("{\"tokens\":%ld,\"wrong\":%ld,\"cut\":%ld,\"unfinished\":%ld,\"bad_status\":%ld,\"seconds\":%.6f,"
           "\"first_p50_us\":%.0f,\"first_p99_us\":%.0f,\"delay_p50_us\":%.0f,\"delay_p99_us\":%.0f,"
           "\"left_us\":%lld,\"error\":\"%s\"}\n",
           total, wrong, cut, unfinished, bad_status, seconds, at_share(firsts, firsts_used, .5),
           at_share(firsts, firsts_used, .99), at_share(delays, delays_used, .5),
           at_share(delays, delays_used, .99), (long long)left, first_error);
    return 0;
}
