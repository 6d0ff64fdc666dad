/* Stands in for NVIDIA's libnvidia-ml.so.1 in tests; the real ctypes path loads it by name.
 *
 * Each call reads the file named in $NVML_STUB_FILE anew, lines of `key=value`, later ones win:
 *   init.err=9                 opening fails (3 not supported, 4 no permission, 9 no driver,
 *   count.err=999              counting fails  15 lost, 16 reset required, 18 version mismatch)
 *   count=2                    GPUs there are; as with the real one, looked up when it is opened
 *   delay_ms=1500              every call takes so long
 *   old=1                      a driver without the second memory call and the third for processes
 *   gpu0.uuid=…  gpu0.name=…  gpu0.total=…  gpu0.used=…  gpu0.reserved=…   (bytes)
 *   gpu0.util=…  gpu0.temp=…  gpu0.power=…  gpu0.limit=…                   (percent, C, mW)
 *   gpu0.compute=12:4096,13:?  processes that reckon on it, with bytes; `?` is not available
 *   gpu0.graphics=14:512       the same of those that draw
 *   gpu0.compute.more=1        one process more begins between being counted and being listed
 *   gpu0.err=15                every call on this GPU fails so
 *   gpu0.power.err=3           this reading fails so; one without a value is not supported
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, NO_FUNCTION = 13 };
#define MAX_GPUS 8

typedef unsigned long long bytes;
typedef struct gpu { int index; } *gpu;
typedef struct { bytes total, free, used; } memory_v1;
typedef struct { unsigned version; bytes total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned pid; bytes used; unsigned gpu_instance, compute_instance; } process;

static struct gpu gpus[MAX_GPUS];
static int opened;
static unsigned counted;

static int setting(const char *key, char *value, size_t room) {
    const char *path = getenv("NVML_STUB_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[4096];
    size_t length = strlen(key);
    int found = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            snprintf(value, room, "%s", line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

static long long number(const char *key, long long otherwise) {
    char value[64];
    return setting(key, value, sizeof value) ? strtoll(value, NULL, 0) : otherwise;
}

static long long of_gpu(gpu device, const char *what, long long otherwise) {
    char key[64];
    snprintf(key, sizeof key, "gpu%d.%s", device->index, what);
    return number(key, otherwise);
}

static void dawdle(void) {
    long long ms = number("delay_ms", 0);
    struct timespec pause = { ms / 1000, (ms % 1000) * 1000000L };
    if (ms > 0) nanosleep(&pause, NULL);
}

static int refused(gpu device, const char *what) {
    char key[64];
    long long error;
    if (!opened) return UNINITIALIZED;
    dawdle();
    if (!device) return OK;
    if (device < gpus || device >= gpus + MAX_GPUS) return INVALID;
    snprintf(key, sizeof key, "%s.err", what);
    error = of_gpu(device, "err", OK);
    return (int)(error ? error : of_gpu(device, key, OK));
}

static int reading(gpu device, const char *what, unsigned *out) {
    long long value;
    int error = refused(device, what);
    if (error) return error;
    value = of_gpu(device, what, -1);
    if (value < 0) return NOT_SUPPORTED;
    *out = (unsigned)value;
    return OK;
}

static int words(gpu device, const char *what, const char *otherwise, char *out, unsigned room) {
    char key[64], value[256];
    int error = refused(device, what);
    if (error) return error;
    snprintf(key, sizeof key, "gpu%d.%s", device->index, what);
    if (!setting(key, value, sizeof value)) snprintf(value, sizeof value, "%s", otherwise);
    if (strlen(value) >= room) return TOO_SMALL;
    strcpy(out, value);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    int error = (int)number("init.err", OK);
    (void)flags;
    dawdle();
    if (error) return error;
    for (int i = 0; i < MAX_GPUS; i++) gpus[i].index = i;
    counted = (unsigned)number("count", 0);
    opened++;
    return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) {
    if (!opened) return UNINITIALIZED;
    opened--;
    return OK;
}
const char *nvmlErrorString(int error) {
    (void)error;
    return "Stubbed Error";
}
int nvmlSystemGetDriverVersion(char *out, unsigned room) {
    int error = refused(NULL, "");
    if (!error) snprintf(out, room, "570.86.10");
    return error;
}
int nvmlDeviceGetCount_v2(unsigned *out) {
    int error = refused(NULL, "");
    if (!error) error = (int)number("count.err", OK);
    if (!error) *out = counted;
    return error;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu *out) {
    int error = refused(NULL, "");
    if (error) return error;
    if (index >= counted) return INVALID;
    error = (int)of_gpu(&gpus[index], "handle.err", OK);
    if (!error) *out = &gpus[index];
    return error;
}
int nvmlDeviceGetUUID(gpu device, char *out, unsigned room) {
    char otherwise[32];
    snprintf(otherwise, sizeof otherwise, "GPU-%d", device->index);
    return words(device, "uuid", otherwise, out, room);
}
int nvmlDeviceGetName(gpu device, char *out, unsigned room) {
    return words(device, "name", "NVIDIA Stub", out, room);
}
int nvmlDeviceGetMemoryInfo(gpu device, memory_v1 *out) {
    int error = refused(device, "memory");
    if (error) return error;
    out->total = (bytes)of_gpu(device, "total", 0);
    /* As the real one: the driver's reserve counts as used. */
    out->used = (bytes)(of_gpu(device, "used", 0) + of_gpu(device, "reserved", 0));
    out->free = out->total - out->used;
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(gpu device, memory_v2 *out) {
    int error = refused(device, "memory");
    if (error) return error;
    if (number("old", 0)) return NO_FUNCTION;
    if (out->version != (sizeof(memory_v2) | 2u << 24)) return INVALID;
    out->total = (bytes)of_gpu(device, "total", 0);
    out->reserved = (bytes)of_gpu(device, "reserved", 0);
    out->used = (bytes)of_gpu(device, "used", 0);
    out->free = out->total - out->reserved - out->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(gpu device, utilization *out) {
    out->memory = 0;
    return reading(device, "util", &out->gpu);
}
int nvmlDeviceGetTemperature(gpu device, int sensor, unsigned *out) {
    return sensor ? INVALID : reading(device, "temp", out);
}
int nvmlDeviceGetPowerUsage(gpu device, unsigned *out) { return reading(device, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(gpu device, unsigned *out) {
    return reading(device, "limit", out);
}

static int processes(gpu device, const char *what, unsigned *count, process *out) {
    char key[64], more[64], listed[4096] = "";
    unsigned found = 0, room = out ? *count : 0;
    int error = refused(device, what);
    if (error) return error;
    snprintf(key, sizeof key, "gpu%d.%s", device->index, what);
    if (!setting(key, listed, sizeof listed)) listed[0] = 0;
    for (char *at = strtok(listed, ","); at; at = strtok(NULL, ","), found++) {
        char *used = strchr(at, ':');
        if (!used) return INVALID;
        if (found >= room) continue;
        out[found] = (process){ (unsigned)strtoul(at, NULL, 10), ~0ULL, ~0u, ~0u };
        if (used[1] != '?') out[found].used = strtoull(used + 1, NULL, 0);
    }
    snprintf(more, sizeof more, "%s.more", what);
    if (out && of_gpu(device, more, 0)) found = room + 1;
    *count = found;
    return found > room ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(gpu device, unsigned *count, process *out) {
    return number("old", 0) ? NO_FUNCTION : processes(device, "compute", count, out);
}
int nvmlDeviceGetComputeRunningProcesses_v2(gpu device, unsigned *count, process *out) {
    return processes(device, "compute", count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu device, unsigned *count, process *out) {
    return number("old", 0) ? NO_FUNCTION : processes(device, "graphics", count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(gpu device, unsigned *count, process *out) {
    return processes(device, "graphics", count, out);
}
