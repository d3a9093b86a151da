/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * What every call does before its own work: hang, refuse, or find its chip.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "double.h"

static atomic_bool initialised;
static _Thread_local char call_function[MAX_NAME], call_subject[MAX_NAME];

static long long now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void log_call(const char *function, const char *subject, int result, const char *more)
{
    char path[4096], line[256];
    snprintf(path, sizeof(path), "%s.log", state_path());
    int length = snprintf(line, sizeof(line), "%lld %d %s %s %d%s%s\n", now_ns(CLOCK_REALTIME) / 1000,
                          (int)getpid(), function, subject, result, *more ? " " : "", more);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0)
        return;
    if (write(file, line, (size_t)length) != length)
        fputs("libdcmi double: cannot write its log\n", stderr);
    close(file);
}

/* The line that names this call, or every call of the chip by "*": hang and return have such. */
static const char *order_for(const char *prefix, const char *order, const char *function)
{
    char key[2 * MAX_NAME];
    for (int n = 0; n < 2; n++) {
        snprintf(key, sizeof(key), "%s%s %s", prefix, order, n == 0 ? function : "*");
        const char *found = state_find(key, 0);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static int obey(const char *prefix, const char *function)
{
    while (order_for(prefix, "hang", function) != NULL)
        state_wait();
    if (order_for(prefix, "crash", function) != NULL)
        raise(SIGKILL); /* as SIGSEGV does, but for the core */
    const char *result = order_for(prefix, "return", function);
    return result != NULL ? (int)strtol(result, NULL, 0) : DCMI_OK;
}

static long init_result(void)
{
    return state_exists() ? state_number("init", DCMI_OK) : DCMI_ERR_CODE_INNER_ERR;
}

static int begin(const char *function)
{
    snprintf(call_function, sizeof(call_function), "%s", function);
    snprintf(call_subject, sizeof(call_subject), "-");
    state_lock();
    return obey("", function);
}

/* As dcmi_init_for_server.c of hicann/driver (2025) does: it hangs where one chip does, and a card
 * that does not answer is never listed by this process. */
static void ask_every_chip(void)
{
    struct chip chips[MAX_CHIPS];
    int count = list_chips(chips, MAX_CHIPS);
    for (int n = 0; n < count; n++) {
        char prefix[MAX_NAME];
        snprintf(prefix, sizeof(prefix), "chip %d.%d ", chips[n].card, chips[n].device);
        if (obey(prefix, "get_device_health") != DCMI_OK ||
            state_chip(&chips[n], "dropped", 0) != NULL ||
            boot_status_of(&chips[n]) != DCMI_SYSTEM_START_FINISH)
            unlist_card(chips[n].card);
    }
}

int enter_init(void)
{
    int result = begin("init");
    if (result == DCMI_OK)
        result = (int)init_result();
    if (result == DCMI_OK && state_has_word(state_find("init-asks", 0), "on"))
        ask_every_chip();
    if (result == DCMI_OK)
        initialised = true;
    log_call("init", "-", result, "");
    return result;
}

/* A driver that is gone answers nobody; the other refusals are those of dcmi_init alone. */
int enter(const char *function)
{
    int result = begin(function);
    if (result == DCMI_OK && (!initialised || init_result() == DCMI_ERR_CODE_INNER_ERR))
        result = DCMI_ERR_CODE_INNER_ERR;
    return result;
}

int enter_chip(const char *function, int card, int device, enum need need, struct chip *chip)
{
    char prefix[MAX_NAME];
    int result = enter(function);
    snprintf(call_subject, sizeof(call_subject), "%d.%d", card, device);
    if (result != DCMI_OK)
        return result;
    snprintf(prefix, sizeof(prefix), "chip %d.%d ", card, device);
    result = obey(prefix, function);
    if (result != DCMI_OK)
        return result;
    if (is_mcu(card, device))
        return DCMI_ERR_CODE_NOT_SUPPORT;
    if (!find_chip(card, device, chip))
        return DCMI_ERR_CODE_DEVICE_NOT_EXIST;
    if (need != ANYHOW && state_chip(chip, "dropped", 0) != NULL)
        return DCMI_ERR_CODE_NOT_REDAY;
    if (need == STARTED && boot_status_of(chip) != DCMI_SYSTEM_START_FINISH)
        return DCMI_ERR_CODE_NOT_REDAY;
    return DCMI_OK;
}

int leave(int result)
{
    if (state_has_word(state_find("log", 0), "calls") && strcmp(call_function, "init") != 0)
        log_call(call_function, call_subject, result, "");
    state_unlock();
    return result;
}

int invalid_unless(int result, bool condition)
{
    return result == DCMI_OK && !condition ? DCMI_ERR_CODE_INVALID_PARAMETER : result;
}

/* "booting SINCE_NS SECONDS": a third of the time in each of the states 0, 1 and 2. */
int boot_status_of(const struct chip *chip)
{
    const char *booting = state_chip(chip, "booting", 0);
    long long since;
    double seconds;
    if (booting == NULL || sscanf(booting, "%lld %lf", &since, &seconds) != 2)
        return (int)state_chip_number(chip, "boot", DCMI_SYSTEM_START_FINISH);
    double passed = (double)(now_ns(CLOCK_MONOTONIC) - since) / 1e9;
    if (passed >= seconds)
        return DCMI_SYSTEM_START_FINISH;
    return (int)(3 * passed / seconds);
}

/* "CODE SEVERITY curable|lasting TEXT" */
bool parse_fault(const char *line, struct fault *fault)
{
    char kind[16];
    int at = 0;
    memset(fault, 0, sizeof(*fault));
    if (sscanf(line, "%x %u %15s %n", &fault->code, &fault->severity, kind, &at) < 3)
        return false;
    fault->curable = strcmp(kind, "curable") == 0;
    snprintf(fault->text, sizeof(fault->text), "%s", line + at);
    return true;
}

int list_faults(const struct chip *chip, struct fault *faults, int room)
{
    int count = 0;
    for (int n = 0; count < room; n++) {
        const char *line = state_chip(chip, "code", n);
        if (line == NULL)
            break;
        if (parse_fault(line, &faults[count]))
            count++;
    }
    return count;
}

int count_processes(const struct chip *chip)
{
    int count = 0;
    while (state_chip(chip, "process", count) != NULL)
        count++;
    return count;
}
