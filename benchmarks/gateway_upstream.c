/* A model server for measuring what stands before it: far faster than any of that.
 *
 *   gateway_upstream MODELS        prints its port, then serves until it is ended
 *
 * It speaks enough of LM Studio's API to be listed. A chat completion streams numbered tokens; how
 * many and how fast stands in the question: "tokens=500 rate=50" (rate 0: as fast as it is read).
 * Each token says its number and the microsecond it was made; it is an HTTP chunk and a write of its
 * own, as model servers do it. In a flood "burst=64" puts so many chunks into one write.
 * GET /bench/stats tells how many streams are open, finished and abandoned, and when the last was.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

#define MOST 4096
#define IN_BYTES 65536
#define OUT_BYTES 131072
#define FULL (OUT_BYTES - 1024)
#define TURN 16

struct conn {
    int fd, streaming, waiting_out;
    size_t in_used, out_used, out_sent;
    long number, tokens, burst;
    int64_t started_us;
    double gap_us;
    size_t before_size;
    char model[48], before[256];
    char in[IN_BYTES];
    char out[OUT_BYTES];
};

static struct conn *conns[MOST];
static int epoll_fd, models;
static long open_streams, finished, abandoned;
static int64_t last_abandoned_us;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void watch(struct conn *c, int out) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.fd = c->fd};
    if (c->waiting_out != out) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
    c->waiting_out = out;
}

static void drop(struct conn *c) {
    if (c->streaming) {
        open_streams--, abandoned++;
        last_abandoned_us = now_us();
    }
    conns[c->fd] = NULL;
    close(c->fd);
    free(c);
}

static void put(struct conn *c, const char *text, size_t size) {
    memcpy(c->out + c->out_used, text, size);
    c->out_used += size;
}

static void put_chunk(struct conn *c, const char *body, int size) {
    char head[16];
    put(c, head, (size_t)sprintf(head, "%x\r\n", (unsigned)size));
    put(c, body, (size_t)size);
    put(c, "\r\n", 2);
}

static void put_event(struct conn *c, const char *delta, const char *finish) {
    char body[512];
    put_chunk(c, body, snprintf(body, sizeof body,
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1790630229,"
        "\"model\":\"%s\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n",
        c->model, delta, finish));
}

static char *put_number(char *at, int64_t number) {
    char digits[24];
    int n = 0;
    do digits[n++] = (char)('0' + number % 10); while (number /= 10);
    while (n) *at++ = digits[--n];
    return at;
}

/* As `put_event` would, but cheap enough not to be what is measured. */
static void put_token(struct conn *c, int64_t now) {
    static const char after[] = " \"},\"finish_reason\":null}]}\n\n\r\n";
    static const char hex[] = "0123456789abcdef";
    if (c->number == 0) put_event(c, "{\"role\":\"assistant\",\"content\":\"\"}", "null");
    char *start = c->out + c->out_used, *at = start + 4; /* the length: two digits and a line end */
    memcpy(at, c->before, c->before_size);
    at = put_number(at + c->before_size, c->number);
    *at++ = ':';
    at = put_number(at, now);
    memcpy(at, after, sizeof after - 1);
    at += sizeof after - 1;
    size_t size = (size_t)(at - start) - 6;
    start[0] = hex[size >> 4 & 15], start[1] = hex[size & 15], start[2] = '\r', start[3] = '\n';
    c->out_used += (size_t)(at - start);
    if (++c->number < c->tokens) return;
    char usage[256];
    put_event(c, "{}", "\"stop\"");
    put_chunk(c, usage, snprintf(usage, sizeof usage,
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1790630229,"
        "\"model\":\"%s\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":%ld,"
        "\"total_tokens\":%ld}}\n\n", c->model, c->tokens, c->tokens + 7));
    put_chunk(c, "data: [DONE]\n\n", 14);
    put(c, "0\r\n\r\n", 5);
    c->streaming = 0, open_streams--, finished++;
}

/* Whether the connection lives on. */
static int flush_out(struct conn *c) {
    while (c->out_sent < c->out_used) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_used - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) { watch(c, 1); return 1; }
        if (sent < 0) { drop(c); return 0; }
        c->out_sent += (size_t)sent;
    }
    c->out_used = c->out_sent = 0;
    watch(c, 0);
    return 1;
}

/* What is due by now, as far as the reader keeps up. A flood takes turns: a few writes a stream. */
static void advance(struct conn *c, int64_t now) {
    int fd = c->fd;
    for (int writes = 0; writes < TURN && conns[fd] && c->streaming && !c->out_used; writes++) {
        if (c->gap_us > 0 && now < c->started_us + (int64_t)(c->gap_us * (double)c->number)) return;
        for (long n = 0; n < c->burst && c->streaming && c->out_used < FULL; n++) put_token(c, now);
        if (!flush_out(c)) return;
    }
    if (c->streaming && c->gap_us == 0) watch(c, 1);
}

static void whole(struct conn *c, const char *body, size_t size) {
    char head[128];
    put(c, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                       "Content-Length: %zu\r\n\r\n", size));
    put(c, body, size);
}

static size_t list(char *body, size_t room, int native) {
    size_t used = (size_t)sprintf(body, native ? "{\"models\":[" : "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < models && used < room - 600; i++) {
        if (i) body[used++] = ',';
        used += (size_t)snprintf(body + used, room - used, native
            ? "{\"type\":\"llm\",\"publisher\":\"bench\",\"key\":\"bench/model-%d\","
              "\"display_name\":\"Bench %d\",\"architecture\":\"qwen3\",\"size_bytes\":2497280256,"
              "\"quantization\":{\"name\":\"Q4_K_M\",\"bits_per_weight\":4},\"params_string\":\"4B\","
              "\"loaded_instances\":[{\"id\":\"bench/model-%d\",\"config\":{\"context_length\":32768}}],"
              "\"max_context_length\":32768,\"format\":\"gguf\",\"description\":null,"
              "\"capabilities\":{\"vision\":false,\"trained_for_tool_use\":true}}"
            : "{\"id\":\"bench/model-%d\",\"object\":\"model\"}", i, i, i);
    }
    return used + (size_t)sprintf(body + used, "]}");
}

static double number_after(const char *text, const char *name, double otherwise) {
    const char *at = strstr(text, name);
    return at ? atof(at + strlen(name)) : otherwise;
}

static void copy_model(struct conn *c, const char *body) {
    const char *at = strstr(body, "\"model\"");
    size_t n = 0;
    if (at && (at = strchr(at + 7, '"')))
        for (at++; *at && *at != '"' && n < sizeof c->model - 1; at++) c->model[n++] = *at;
    c->model[n] = 0;
    c->before_size = (size_t)snprintf(c->before, sizeof c->before,
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1790630229,"
        "\"model\":\"%s\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"", c->model);
}

static void answer(struct conn *c, const char *head, const char *body) {
    static char text[60000];
    if (!strncmp(head, "POST /v1/chat/completions", 25) || !strncmp(head, "POST /chat/completions", 22)) {
        copy_model(c, body);
        c->tokens = (long)number_after(body, "tokens=", 10);
        double rate = number_after(body, "rate=", 0);
        c->gap_us = rate > 0 ? 1e6 / rate : 0;
        c->burst = rate > 0 ? 1 : (long)number_after(body, "burst=", 1);
        c->number = 0, c->streaming = 1, c->started_us = now_us();
        open_streams++;
        const char *sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                          "Transfer-Encoding: chunked\r\n\r\n";
        put(c, sse, strlen(sse));
        if (flush_out(c)) advance(c, c->started_us);
        return;
    }
    size_t size;
    if (!strncmp(head, "GET /lmstudio-greeting", 22)) size = (size_t)sprintf(text, "{\"lmstudio\":true}");
    else if (!strncmp(head, "GET /api/v1/models", 18)) size = list(text, sizeof text, 1);
    else if (!strncmp(head, "GET /v1/models", 14)) size = list(text, sizeof text, 0);
    else if (!strncmp(head, "GET /bench/stats", 16))
        size = (size_t)sprintf(text, "{\"open\":%ld,\"finished\":%ld,\"abandoned\":%ld,\"last_abandoned_us\":%lld}",
                               open_streams, finished, abandoned, (long long)last_abandoned_us);
    else size = (size_t)sprintf(text, "{\"error\":\"Unexpected endpoint or method.\"}");
    whole(c, text, size);
    flush_out(c);
}

static void take(struct conn *c) {
    for (;;) {
        ssize_t got = recv(c->fd, c->in + c->in_used, IN_BYTES - 1 - c->in_used, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) { drop(c); return; }
        c->in_used += (size_t)got;
        c->in[c->in_used] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) continue;
        char *length = strcasestr(c->in, "content-length:");
        size_t size = length && length < end ? (size_t)atol(length + 15) : 0;
        size_t need = (size_t)(end - c->in) + 4 + size;
        if (c->in_used < need) {
            if (need >= IN_BYTES) { drop(c); return; }
            continue;
        }
        int fd = c->fd;
        c->in_used = 0; /* nobody here pipelines */
        answer(c, c->in, end + 4);
        if (!conns[fd]) return;
    }
}

int main(int argc, char **argv) {
    models = argc > 1 ? atoi(argv[1]) : 6;
    signal(SIGPIPE, SIG_IGN);
    int one = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(server, (void *)&address, size) || listen(server, 4096)) return 1;
    getsockname(server, (void *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_fd = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = server}, seen[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, server, &e);
    int64_t ticked = 0;
    for (;;) {
        int many = epoll_wait(epoll_fd, seen, 256, open_streams ? 1 : 1000);
        for (int i = 0; i < many; i++) {
            int fd = seen[i].data.fd;
            if (fd == server) {
                int new;
                while ((new = accept4(server, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (new >= MOST) { close(new); continue; }
                    setsockopt(new, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct conn *c = calloc(1, sizeof *c);
                    c->fd = new, conns[new] = c;
                    struct epoll_event in = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = new};
                    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, new, &in);
                }
                continue;
            }
            struct conn *c = conns[fd];
            if (c && (seen[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) take(c);
            c = conns[fd];
            if (c && (seen[i].events & EPOLLOUT) && (!c->out_used || flush_out(c)))
                advance(c, now_us());
        }
        int64_t now = now_us();
        if (!open_streams || now - ticked < 500) continue;
        ticked = now;
        for (int fd = 0; fd < MOST; fd++)
            if (conns[fd] && conns[fd]->streaming && conns[fd]->gap_us > 0) advance(conns[fd], now);
    }
}
