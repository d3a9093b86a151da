/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * The part of the DCMI interface that the double has, written from the project's Ascend facts.
 * tests/unit/dcmi/test_abi.py holds it against a table of its own.
 */
#ifndef DCMI_H
#define DCMI_H

#define DCMI_OK 0
#define DCMI_ERR_CODE_INVALID_PARAMETER (-8001)
#define DCMI_ERR_CODE_OPER_NOT_PERMITTED (-8002)
#define DCMI_ERR_CODE_MEM_OPERATE_FAIL (-8003)
#define DCMI_ERR_CODE_SECURE_FUN_FAIL (-8004)
#define DCMI_ERR_CODE_INNER_ERR (-8005)
#define DCMI_ERR_CODE_TIME_OUT (-8006)
#define DCMI_ERR_CODE_INVALID_DEVICE_ID (-8007)
#define DCMI_ERR_CODE_DEVICE_NOT_EXIST (-8008)
#define DCMI_ERR_CODE_IOCTL_FAIL (-8009)
#define DCMI_ERR_CODE_SEND_MSG_FAIL (-8010)
#define DCMI_ERR_CODE_RECV_MSG_FAIL (-8011)
#define DCMI_ERR_CODE_NOT_REDAY (-8012)
#define DCMI_ERR_CODE_NOT_SUPPORT_IN_CONTAINER (-8013)
#define DCMI_ERR_CODE_FILE_OPERATE_FAIL (-8014)
#define DCMI_ERR_CODE_RESET_FAIL (-8015)
#define DCMI_ERR_CODE_ABORT_OPERATE (-8016)
#define DCMI_ERR_CODE_IS_UPGRADING (-8017)
#define DCMI_ERR_CODE_RESOURCE_OCCUPIED (-8020)
#define DCMI_ERR_CODE_PARTITION_NOT_RIGHT (-8022)
#define DCMI_ERR_CODE_CONFIG_INFO_NOT_EXIST (-8023)
#define DCMI_ERR_CODE_NOT_SUPPORT (-8255)

#define DCMI_MAX_CHIP_NAME 32
#define DCMI_MAX_EVENT_NAME 256
#define DCMI_MAX_EVENT_DATA 32
#define DCMI_MAX_ERROR_CODES 128
#define DCMI_MAX_PROCESSES 32

#define DCMI_EVENT_FILTER_FLAG_EVENT_ID 1ULL
#define DCMI_EVENT_FILTER_FLAG_SERVERITY 2ULL
#define DCMI_EVENT_FILTER_FLAG_NODE_TYPE 4ULL

/* Two layouts of struct dcmi_ecc_info are in use: 7 numbers, or 9. */
#ifndef DCMI_ECC_NUMBERS
#define DCMI_ECC_NUMBERS 7
#endif

enum dcmi_unit_type { NPU_TYPE = 0, MCU_TYPE = 1, CPU_TYPE = 2, INVALID_TYPE = 0xFF };

enum dcmi_reset_channel { OUTBAND_CHANNEL = 0, INBAND_CHANNEL = 1 };

enum dcmi_boot_status {
    DCMI_BOOT_STATUS_UNINIT = 0,
    DCMI_BOOT_STATUS_BIOS = 1,
    DCMI_BOOT_STATUS_OS = 2,
    DCMI_BOOT_STATUS_FINISH = 3,
    DCMI_SYSTEM_START_FINISH = 16
};

enum dcmi_device_type {
    DCMI_DEVICE_TYPE_DDR = 0,
    DCMI_DEVICE_TYPE_SRAM = 1,
    DCMI_DEVICE_TYPE_HBM = 2,
    DCMI_DEVICE_TYPE_NPU = 3,
    DCMI_DEVICE_TYPE_NONE = 0xFF
};

enum dcmi_event_type { DCMI_DMS_FAULT_EVENT = 0 };

struct dcmi_chip_info {
    unsigned char chip_type[DCMI_MAX_CHIP_NAME];
    unsigned char chip_name[DCMI_MAX_CHIP_NAME];
    unsigned char chip_ver[DCMI_MAX_CHIP_NAME];
    unsigned int aicore_cnt;
};

struct dcmi_chip_info_v2 {
    unsigned char chip_type[DCMI_MAX_CHIP_NAME];
    unsigned char chip_name[DCMI_MAX_CHIP_NAME];
    unsigned char chip_ver[DCMI_MAX_CHIP_NAME];
    unsigned int aicore_cnt;
    unsigned char npu_name[DCMI_MAX_CHIP_NAME];
};

struct dcmi_board_info {
    unsigned int board_id;
    unsigned int pcb_id;
    unsigned int bom_id;
    unsigned int slot_id;
};

struct dcmi_pcie_info_all {
    unsigned int venderid;
    unsigned int subvenderid;
    unsigned int deviceid;
    unsigned int subdeviceid;
    int domain;
    unsigned int bdf_busid;
    unsigned int bdf_deviceid;
    unsigned int bdf_funcid;
    unsigned char reserve[32];
};

struct dcmi_ecc_info {
    int enable_flag;
    unsigned int single_bit_error_cnt;
    unsigned int double_bit_error_cnt;
    unsigned int total_single_bit_error_cnt;
    unsigned int total_double_bit_error_cnt;
    unsigned int single_bit_isolated_pages_cnt;
    unsigned int double_bit_isolated_pages_cnt;
#if DCMI_ECC_NUMBERS == 9
    unsigned int single_bit_next_isolated_pages_cnt;
    unsigned int double_bit_next_isolated_pages_cnt;
#endif
};

struct dcmi_hbm_info {
    unsigned long long memory_size;
    unsigned int freq;
    unsigned long long memory_usage;
    int temp;
    unsigned int bandwith_util_rate;
};

/* What the older dcmi_get_hbm_info fills in: KB where the newer one says MB. */
struct dsmi_hbm_info_stru {
    unsigned long long memory_size;
    unsigned int freq;
    unsigned long long memory_usage;
    int temp;
    unsigned int bandwith_util_rate;
};

struct dcmi_get_memory_info_stru {
    unsigned long long memory_size;
    unsigned long long memory_available;
    unsigned int freq;
    unsigned long hugepagesize;
    unsigned long hugepages_total;
    unsigned long hugepages_free;
    unsigned int utiliza;
    unsigned char reserve[60];
};

struct dcmi_proc_mem_info {
    int proc_id;
    unsigned long proc_mem_usage;
};

struct dcmi_event_filter {
    unsigned long long filter_flag;
    unsigned int event_id;
    unsigned char severity;
    unsigned char node_type;
    unsigned char resv[32];
};

struct dcmi_dms_fault_event {
    unsigned int event_id;
    unsigned short deviceid;
    unsigned char node_type;
    unsigned char node_id;
    unsigned char sub_node_type;
    unsigned char sub_node_id;
    unsigned char severity;
    unsigned char assertion;
    int event_serial_num;
    int notify_serial_num;
    unsigned long long alarm_raised_time;
    char event_name[DCMI_MAX_EVENT_NAME];
    char additional_info[DCMI_MAX_EVENT_DATA];
    unsigned char os_id;
    unsigned char resv_1[1];
    unsigned short node_type_ex;
    unsigned short sub_node_type_ex;
    unsigned char resv_2[2];
    unsigned char resv[24];
};

struct dcmi_event {
    enum dcmi_event_type type;
    union {
        struct dcmi_dms_fault_event dms_event;
    } event_t;
};

typedef void (*dcmi_fault_event_callback)(struct dcmi_event *event);

int dcmi_init(void);
int dcmi_get_dcmi_version(char *version, unsigned int length);
int dcmi_get_driver_version(char *version, unsigned int length);
int dcmi_get_driver_health(unsigned int *health);
int dcmi_get_card_list(int *card_num, int *card_list, int list_len);
int dcmi_get_card_num_list(int *card_num, int *card_list, int list_len);
int dcmi_get_device_num_in_card(int card, int *device_num);
int dcmi_get_device_id_in_card(int card, int *device_id_max, int *mcu_id, int *cpu_id);
int dcmi_get_device_type(int card, int device, enum dcmi_unit_type *type);
int dcmi_get_device_chip_info(int card, int device, struct dcmi_chip_info *info);
int dcmi_get_device_chip_info_v2(int card, int device, struct dcmi_chip_info_v2 *info);
int dcmi_get_device_board_info(int card, int device, struct dcmi_board_info *info);
int dcmi_get_device_pcie_info_v2(int card, int device, struct dcmi_pcie_info_all *info);
int dcmi_get_device_power_info(int card, int device, int *power);
int dcmi_get_device_health(int card, int device, unsigned int *health);
int dcmi_get_device_errorcode_v2(int card, int device, int *count, unsigned int *list,
                                 unsigned int list_len);
int dcmi_get_device_errorcode_string(int card, int device, unsigned int code, unsigned char *info,
                                     int size);
int dcmi_get_device_boot_status(int card, int device, enum dcmi_boot_status *status);
int dcmi_set_device_reset(int card, int device, enum dcmi_reset_channel channel);
int dcmi_get_device_temperature(int card, int device, int *temperature);
int dcmi_get_device_ecc_info(int card, int device, enum dcmi_device_type type,
                             struct dcmi_ecc_info *info);
int dcmi_get_device_hbm_info(int card, int device, struct dcmi_hbm_info *info);
int dcmi_get_hbm_info(int card, int device, struct dsmi_hbm_info_stru *info);
int dcmi_get_device_memory_info_v3(int card, int device, struct dcmi_get_memory_info_stru *info);
int dcmi_get_device_utilization_rate(int card, int device, int type, unsigned int *rate);
int dcmi_get_device_logic_id(int *logic_id, int card, int device);
int dcmi_get_device_phyid_from_logicid(unsigned int logic_id, unsigned int *phy_id);
int dcmi_get_device_logicid_from_phyid(unsigned int phy_id, unsigned int *logic_id);
int dcmi_get_product_type(int card, int device, char *product, int size);
int dcmi_get_device_resource_info(int card, int device, struct dcmi_proc_mem_info *processes,
                                  int *count);
int dcmi_subscribe_fault_event(int card, int device, struct dcmi_event_filter filter,
                               dcmi_fault_event_callback handler);

#endif
