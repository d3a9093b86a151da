/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * Fault events: a thread looks at the state when it was replaced, and tells the handler which
 * codes came and went. What was there at the subscription is not told, as with the real one.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "double.h"

#define POLL_MS 20      /* without inotify */
#define LOOK_MS 1000    /* with it: an inotify that was lost costs a second, not a test */
#define MAX_KNOWN 512
#define MAX_NEWS 512

enum assertion { RECOVER = 0, OCCUR = 1, ONE_OFF = 2 };

struct present {
    struct chip chip;
    struct fault fault;
};

static struct {
    bool taken;
    int card, device;
    struct dcmi_event_filter filter;
    dcmi_fault_event_callback handler;
} subscription;

static struct present known[MAX_KNOWN], now_present[MAX_KNOWN];
static struct dcmi_event news[MAX_NEWS];
static int known_count, news_count, serial;
static long last_one_off;

static int list_present(struct present *list)
{
    struct chip chips[MAX_CHIPS];
    struct fault faults[DCMI_MAX_ERROR_CODES];
    int count = 0, chip_count = list_chips(chips, MAX_CHIPS);
    for (int c = 0; c < chip_count; c++) {
        int fault_count = list_faults(&chips[c], faults, DCMI_MAX_ERROR_CODES);
        for (int n = 0; n < fault_count && count < MAX_KNOWN; n++)
            list[count++] = (struct present){chips[c], faults[n]};
    }
    return count;
}

static bool holds(const struct present *list, int count, const struct present *wanted)
{
    for (int n = 0; n < count; n++)
        if (list[n].fault.code == wanted->fault.code &&
            list[n].chip.card == wanted->chip.card && list[n].chip.device == wanted->chip.device)
            return true;
    return false;
}

/* 80E01801, 80E18402 and 80E0020B are of one node (112 in the vendor's example): bits 17 to 24. */
static unsigned char node_type(unsigned int code)
{
    return (unsigned char)(code >> 17);
}

static bool is_wanted(const struct present *present)
{
    const struct dcmi_event_filter *filter = &subscription.filter;
    bool everywhere = subscription.card == -1 && subscription.device == -1;
    if (!everywhere && (subscription.card != present->chip.card ||
                        subscription.device != present->chip.device))
        return false;
    if ((filter->filter_flag & DCMI_EVENT_FILTER_FLAG_EVENT_ID) != 0 &&
        filter->event_id != present->fault.code)
        return false;
    if ((filter->filter_flag & DCMI_EVENT_FILTER_FLAG_SERVERITY) != 0 &&
        filter->severity > present->fault.severity)
        return false;
    return (filter->filter_flag & DCMI_EVENT_FILTER_FLAG_NODE_TYPE) == 0 ||
           filter->node_type == node_type(present->fault.code);
}

static void tell(const struct present *present, enum assertion assertion)
{
    struct timespec now;
    if (!is_wanted(present) || news_count == MAX_NEWS)
        return;
    struct dcmi_event *event = &news[news_count++];
    struct dcmi_dms_fault_event *fault = &event->event_t.dms_event;
    memset(event, 0, sizeof(*event));
    clock_gettime(CLOCK_REALTIME, &now);
    event->type = DCMI_DMS_FAULT_EVENT;
    fault->event_id = present->fault.code;
    fault->deviceid = (unsigned short)present->chip.logic_id;
    fault->node_type = node_type(present->fault.code);
    fault->severity = (unsigned char)present->fault.severity;
    fault->assertion = (unsigned char)assertion;
    fault->event_serial_num = fault->notify_serial_num = ++serial;
    fault->alarm_raised_time =
        (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
    snprintf(fault->event_name, sizeof(fault->event_name), "%s", present->fault.text);
}

/* "event SERIAL C.D CODE SEVERITY lasting TEXT": it happens once, when its serial is new. */
static void tell_one_offs(bool silent)
{
    long highest = last_one_off;
    const char *line;
    for (int n = 0; (line = state_find("event", n)) != NULL; n++) {
        struct present present;
        long number;
        int card, device, at = 0;
        if (sscanf(line, "%ld %d.%d %n", &number, &card, &device, &at) < 3 ||
            number <= last_one_off || !find_chip(card, device, &present.chip) ||
            !parse_fault(line + at, &present.fault))
            continue;
        highest = number > highest ? number : highest;
        if (!silent)
            tell(&present, ONE_OFF);
    }
    last_one_off = highest;
}

/* With the lock held: what is new since the last look, into `news`. */
static void look(bool silent)
{
    int count = list_present(now_present);
    silent = silent || state_has_word(state_find("events", 0), "off");
    for (int n = 0; n < count && !silent; n++)
        if (!holds(known, known_count, &now_present[n]))
            tell(&now_present[n], OCCUR);
    for (int n = 0; n < known_count && !silent; n++)
        if (!holds(now_present, count, &known[n]))
            tell(&known[n], RECOVER);
    tell_one_offs(silent);
    memcpy(known, now_present, sizeof(known));
    known_count = count;
}

static int watch_folder(void)
{
    char folder[4096];
    int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    snprintf(folder, sizeof(folder), "%s", state_path());
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        strcpy(folder, ".");
    else
        slash[slash == folder] = '\0';
    if (inotify >= 0 && inotify_add_watch(inotify, folder, IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE |
                                          IN_MOVED_FROM | IN_DELETE_SELF | IN_ONLYDIR) < 0) {
        close(inotify);
        inotify = -1;
    }
    return inotify;
}

static void wait_for_change(int inotify)
{
    char skipped[4096];
    struct pollfd watched = {.fd = inotify, .events = POLLIN};
    poll(&watched, inotify >= 0, inotify >= 0 ? LOOK_MS : POLL_MS);
    while (inotify >= 0 && read(inotify, skipped, sizeof(skipped)) > 0)
        ;
}

static void *follow(void *argument)
{
    int inotify = (int)(long)argument;
    for (;;) {
        wait_for_change(inotify);
        state_lock();
        news_count = 0;
        if (state_changed())
            look(!state_exists());
        state_unlock();
        for (int n = 0; n < news_count; n++)
            subscription.handler(&news[n]);
    }
    return NULL;
}

/* The thread takes no signals: they are for the program that has loaded the library. */
static int start_thread(int inotify)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, follow, (void *)(long)inotify);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return DCMI_ERR_CODE_INNER_ERR;
    pthread_detach(thread);
    return DCMI_OK;
}

int dcmi_subscribe_fault_event(int card, int device, struct dcmi_event_filter filter,
                               dcmi_fault_event_callback handler)
{
    char subject[MAX_NAME];
    struct chip chip;
    bool everywhere = card == -1 && device == -1;
    int result = everywhere ? enter("subscribe_fault_event")
                            : enter_chip("subscribe_fault_event", card, device, ANYHOW, &chip);
    if (result == DCMI_OK && handler == NULL)
        result = DCMI_ERR_CODE_INVALID_PARAMETER;
    if (result == DCMI_OK && subscription.taken)
        result = DCMI_ERR_CODE_RESOURCE_OCCUPIED; /* once per process */
    if (result == DCMI_OK) {
        subscription.card = card;
        subscription.device = device;
        subscription.filter = filter;
        subscription.handler = handler;
        int inotify = watch_folder();
        state_changed();
        look(true);
        result = start_thread(inotify);
        subscription.taken = result == DCMI_OK;
    }
    snprintf(subject, sizeof(subject), everywhere ? "-" : "%d.%d", card, device);
    log_call("subscribe_fault_event", subject, result, "");
    state_unlock();
    return result;
}
